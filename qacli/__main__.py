"""`python -m qacli` is `qa`."""

from qacli.cli import main

if __name__ == "__main__":
    main()
