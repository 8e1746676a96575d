"""`aioq worker worker:app` runs the shop's jobs: Django first, then the tasks that use it."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from shop.jobs import app  # noqa: E402 - models are there only after setup()

__all__ = ["app"]
