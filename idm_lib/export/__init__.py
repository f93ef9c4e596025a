"""Models for where PyTorch is not: ONNX files, written without any package but PyTorch, and a page that runs them."""

from idm_lib.export.exported import Exported, export
from idm_lib.export.operator import MaskedBlocks
from idm_lib.export.page import fragment, page, scripts, style

__all__ = ["Exported", "MaskedBlocks", "export", "fragment", "page", "scripts", "style"]
