"""How the things of the company look as records, one module a part of the business."""
