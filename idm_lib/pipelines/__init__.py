"""Diffusers pipelines: image or measurements in, image out."""

from idm_lib.pipelines.compressed_sensing import CompressedSensingOutput, CompressedSensingPipeline

__all__ = ["CompressedSensingOutput", "CompressedSensingPipeline"]
