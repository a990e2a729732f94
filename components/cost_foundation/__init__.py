"""Phase 1: what a stack's spend is held against, and where its images come from."""

from components.cost_foundation.cost_foundation import CostFoundation, CostFoundationArgs
from components.cost_foundation.image_registry import Images, RegistryArgs

__all__ = ["CostFoundation", "CostFoundationArgs", "Images", "RegistryArgs"]
