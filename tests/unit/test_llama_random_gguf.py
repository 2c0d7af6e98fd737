"""The maker of random models: what it writes is what llama.cpp and the tests expect."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from workers.llama.api import LlamaModel
from workers.random_gguf import Shape, main, write_random_gguf


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_random_gguf(tmp_path / name, seed=seed)
    first, same, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == same != other


def test_the_command_writes_a_gpt_oss_model_with_mxfp4_experts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.gguf"
    main(["--shape", "tiny", str(path)])
    assert f"{path}: 1." in capsys.readouterr().out
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert kinds["blk.3.attn_q.weight"] == "Q8_0"
    model = LlamaModel(path)
    assert (model.architecture, model.quantisation) == ("gpt-oss", "MXFP4 MoE")
    assert model.kv_values_per_cell == 4 * 2 * (64 + 64)
    model.close()


def test_widths_that_the_formats_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="48, must be a multiple of 32"):
        Shape(width=48)
