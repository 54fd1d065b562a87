"""OWAMcap recordings to datasets that Vision-Language-Action models train on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from owa_data.transforms import (
        auto_set_transform,
        create_binned_dataset_transform,
        create_event_dataset_transform,
        create_fsl_dataset_transform,
        load_from_disk,
    )

__version__ = "0.1.0"

__all__ = [
    "auto_set_transform",
    "create_binned_dataset_transform",
    "create_event_dataset_transform",
    "create_fsl_dataset_transform",
    "load_from_disk",
]


def __getattr__(name: str) -> Any:
    # Loaded when asked for, so that importing the package costs nothing.
    if name in __all__:
        from owa_data import transforms

        return getattr(transforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
