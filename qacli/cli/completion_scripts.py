"""The scripts that make bash, zsh and fish complete `qa`; for PowerShell it is Typer's script.

Each passes the command line up to the cursor to `qacli.cli.completion`, which prints a completion
on each line, and ends with a code other than 0 where the name of a file is expected.
"""

import os

SCRIPTS = {
    "bash": r"""
_qa_completion() {
    local found
    found=$(_QA_COMPLETE=complete_bash _QA_COMPLETE_LINE="${COMP_LINE:0:COMP_POINT}" \
        _QA_COMPLETE_TYPE=$COMP_TYPE _QA_COMPLETE_BREAKS=$COMP_WORDBREAKS \
        qa 2>/dev/null) || { compopt -o default; return; }
    COMPREPLY=()
    [ -z "$found" ] || mapfile -t COMPREPLY <<<"$found"
}
complete -o nosort -F _qa_completion qa
""",
    "zsh": r"""
#compdef qa
_qa_completion() {
    local found
    local -a values
    found=$(_QA_COMPLETE=complete_zsh _QA_COMPLETE_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \
        qa 2>/dev/null) || { _files; return }
    [[ $PREFIX == --*=* ]] && compset -P '*='
    values=("${(@f)found}")
    [[ -n $found ]] && _describe -V 'qa' values
}
if [[ $funcstack[1] == _qa ]]; then
    _qa_completion "$@"
else
    compdef _qa_completion qa
fi
""",
    "fish": r"""
function __qa_completion
    set -l line (commandline -cp | string collect)
    env _QA_COMPLETE=complete_fish _QA_COMPLETE_LINE="$line" qa 2>/dev/null
    or __fish_complete_path (commandline -ct)
end
complete --command qa --no-files --keep-order --arguments '(__qa_completion)'
""",
}


def script_of(shell: str | None = None) -> str:
    """Return the script of a shell; by default of the shell that runs this process.

    Raises:
        typer.Exit: The shell is not supported; the reason is printed.
    """
    from typer._completion_shared import _get_shell_name, get_completion_script

    shell = shell or _get_shell_name() or ""
    if shell in SCRIPTS:
        return SCRIPTS[shell].strip()
    return get_completion_script(prog_name="qa", complete_var="_QA_COMPLETE", shell=shell)


def install() -> tuple[str, str]:
    """Write the script of the shell that runs this process; return the shell and the file's path.

    Typer chooses the file, and adds the line that loads it to the shell's own configuration.

    Raises:
        typer.Exit: The shell is not supported; the reason is printed.
    """
    from typer import _completion_shared

    shell, path = _completion_shared.install(prog_name="qa", complete_var="_QA_COMPLETE")
    if shell in SCRIPTS:
        path.write_text(SCRIPTS[shell].lstrip(), encoding="utf-8")
    return shell, os.fspath(path)
