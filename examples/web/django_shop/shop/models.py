from django.db import models


class Order(models.Model):
    address = models.EmailField()
    receipt_sent = models.DateTimeField(null=True)
