"""OWAMcap recordings to datasets that Vision-Language-Action models train on."""
