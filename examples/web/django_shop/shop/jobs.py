"""The jobs of the shop."""

from django.db import close_old_connections
from django.utils import timezone

from aioq import Aarq, Context
from shop.models import Order

# The store is the one that AIOQ_BROKER_URL names.
app = Aarq()


@app.task(retries=5, retry_delay=30)
def send_receipt(ctx: Context, order_id: int) -> None:
    """A plain function, because the ORM blocks: it runs in a thread."""
    close_old_connections()  # as Django does before each request
    try:
        order = Order.objects.get(pk=order_id)
        if order.receipt_sent is None:  # a job may run twice: sending once is up to us
            order.receipt_sent = timezone.now()  # here the mail would go out
            order.save(update_fields=["receipt_sent"])
    finally:
        close_old_connections()
