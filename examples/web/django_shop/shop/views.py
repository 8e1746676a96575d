from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from shop.jobs import send_receipt
from shop.models import Order


@require_POST
def create(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        order = Order.objects.create(address=request.POST["address"])
        # Only when the order is really there, and never when this transaction is rolled back.
        transaction.on_commit(lambda: send_receipt.enqueue_sync(order.pk))
        if request.POST.get("paid") == "no":
            raise PermissionDenied("not paid: nothing is stored, and no receipt is sent")
    return JsonResponse({"id": order.pk}, status=201)


@require_GET
def show(request: HttpRequest, order_id: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"address": order.address, "receipt_sent": order.receipt_sent})
