"""Stored rows to training samples: images decoded when they are asked for, actions encoded.

attach.py    load a dataset, attach the transform that fits it
event.py binned.py fsl.py    one transform per kind of dataset
rows.py      stored messages to texts and references
images.py    references to images, with a policy for those that fail
media.py     where the files lie
video.py     frames of one video
options.py   arguments that they share
"""

from owa_data.transforms.attach import auto_set_transform, load_from_disk
from owa_data.transforms.binned import create_binned_dataset_transform
from owa_data.transforms.event import create_event_dataset_transform
from owa_data.transforms.fsl import create_fsl_dataset_transform

__all__ = [
    "auto_set_transform",
    "create_binned_dataset_transform",
    "create_event_dataset_transform",
    "create_fsl_dataset_transform",
    "load_from_disk",
]
