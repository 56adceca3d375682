"""A bare Flask view under the server of `qa serve`: one row, by SQLAlchemy Core, as JSON."""

import sys
from functools import partial
from typing import Any

import sqlalchemy as sa
from bare import serve
from flask import Flask

POOL = 10


def create_app(url: str) -> Flask:
    """The application: one view, with only the necessary steps."""
    engine = sa.create_engine(url, pool_size=POOL, max_overflow=0)
    with engine.connect() as connection:
        table = sa.Table("question_answer", sa.MetaData(), autoload_with=connection)
    # As text, or the driver's date would have to be parsed and put together again.
    columns = [sa.type_coerce(column, sa.String()).label(column.name) for column in table.c]
    query = sa.select(*columns).where(table.c.id == sa.bindparam("wanted"))
    app = Flask(__name__)

    @app.get("/qa/<int:record_id>")
    def get(record_id: int) -> dict[str, Any]:
        with engine.connect() as connection:
            return dict(connection.execute(query, {"wanted": record_id}).mappings().one())

    return app


def main() -> None:
    """Serve: the database's URL, the port, the workers and the threads are the arguments."""
    url, port, workers, threads = sys.argv[1], *map(int, sys.argv[2:])
    serve(partial(create_app, url), port, workers, threads)


if __name__ == "__main__":
    main()
