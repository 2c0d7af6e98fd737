"""The maker of random models: what it writes is what llama.cpp and the tests expect."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from workers.jobs import Job, JobResult, JobStatus, Sampling
from workers.llama.api import LlamaModel
from workers.llama.engine import LlamaCppEngine
from workers.llama.sizing import LlamaSettings
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
    model.close()


def test_a_coarse_model_is_of_the_same_formats_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "coarse.gguf"
    write_random_gguf(path, shape=Shape(is_coarse=True, is_talkative=True))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert kinds["blk.3.attn_q.weight"] == kinds["token_embd.weight"] == "Q8_0"
    engine = LlamaCppEngine.load(path, settings=LlamaSettings(n_ctx=2048, n_threads=1))
    sampling = Sampling(temperature=1.0, max_output_tokens=16)
    engine.submit(Job(job_id="j", chunk_id="c", chunk_text="a", task="b", sampling=sampling))
    results = []
    while engine.n_pending:
        results += engine.step()
    (result,) = results
    assert isinstance(result, JobResult) and result.status is not JobStatus.FAILED
    engine.close()


def test_widths_that_the_formats_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="48, must be a multiple of 32"):
        Shape(width=48)
