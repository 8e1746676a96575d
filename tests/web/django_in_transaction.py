"""A program of Django's on PostgreSQL that enqueues in its own transactions, and its worker's app.

Run as a program it places two orders, of which one is rolled back. POSTGRES_PORT is the server's.
"""

import os

import django
from django.conf import settings

from aioq import Aarq, Context
from aioq.backends import PostgresBroker

PORT = os.environ["POSTGRES_PORT"]
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "postgres",
    "USER": "postgres",
    "HOST": "127.0.0.1",
    "PORT": PORT,
}
settings.configure(DATABASES={"default": DATABASE})
django.setup()

from django.db import close_old_connections, connection, transaction  # noqa: E402 - set up first

app = Aarq(PostgresBroker(f"postgresql://postgres@127.0.0.1:{PORT}/postgres"))


@app.task
def send_receipt(ctx: Context, order: str) -> None:
    close_old_connections()
    with connection.cursor() as cursor:
        cursor.execute("select address from orders where address = %s", [order])
        print("sent to", *cursor.fetchone())
    connection.close()


def place(order: str) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("insert into orders values (%s)", [order])
        send_receipt.options(connection=connection.connection).enqueue_sync(order)
        if order == "refused":
            raise PermissionError


if __name__ == "__main__":
    with connection.cursor() as cursor:
        cursor.execute("create table orders (address text)")
    place("accepted")
    try:
        place("refused")
    except PermissionError:
        print("refused")
