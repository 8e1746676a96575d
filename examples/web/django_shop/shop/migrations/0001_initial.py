from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [  # noqa: RUF012 - as Django writes it
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("address", models.EmailField(max_length=254)),
                ("receipt_sent", models.DateTimeField(null=True)),
            ],
        )
    ]
