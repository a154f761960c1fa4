"""CUDA devices that can be used, and those that can't, without there being any."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from asr import build, doctor
from asr.errors import ConfigError
from asr.training import randomness
from asr.training.distributed import World
from asr.training.optimization import autocast_to, resolve_precision

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040).\nPlease update it."


class Gpu:
    """What torch says of the one there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | Exception) -> None:
        self.capability, self.current = capability, None
        for name, answer in {
            "device_count": lambda: 1,
            "get_device_capability": self._capability,
            "get_device_properties": lambda index: type("Properties", (), {"name": "H1", "total_memory": 2**35}),
            "get_arch_list": lambda: ["sm_75", "sm_90", "sm_120", "compute_120"],
            "set_device": self._set_device,
            "is_bf16_supported": lambda including_emulation: self._capability(0) >= (8, 0),
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    def _capability(self, index: int) -> tuple[int, int]:
        if isinstance(self.capability, Exception):
            raise self.capability
        return self.capability

    def _set_device(self, device: Any) -> None:
        self.current = device


@pytest.fixture(autouse=True)
def flags() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("capability", "fault"),
    [
        (RuntimeError(OLD_DRIVER), "driver on your system is too old"),
        ((6, 1), "its compute capability is 6.1, and this torch is built for 7.5 and above"),
    ],
)
def test_a_gpu_that_is_too_old(
    capability: tuple[int, int] | Exception, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted all the same: by the driver's library, not by torch's."""
    Gpu(monkeypatch, capability)
    assert build.device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=fault) as caught:
        build.device("cuda")
    assert "Please update" not in str(caught.value)
    (gpu,) = doctor.devices()[1:]
    assert gpu.startswith("cuda:0: can't be used: ") and fault in gpu


def test_a_gpu_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch, (9, 0))
    torch.backends.cudnn.allow_tf32 = True
    assert build.device("auto") == torch.device("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert gpu.current is None
    assert build.device("cuda:0") == gpu.current == torch.device("cuda:0")
    assert doctor.devices()[1:] == ["cuda:0: H1, 32 GiB"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert doctor.devices()[0] == "cpu: 1 thread"
    assert build.cuda_fault(1) == "this machine has 1 CUDA device"


def test_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts no devices, whatever there are."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cpu")
    assert build.device("auto") == torch.device("cpu")
    fault = (
        "can't be used: this torch is built without CUDA "
        "(for an NVIDIA GPU, https://pytorch.org/get-started has torch 2.11.0 with it)"
    )
    with pytest.raises(ConfigError, match=re.escape(f"'cuda:1' {fault}\n  try: device=cpu, or ")):
        build.device("cuda:1")
    assert doctor.devices()[1:] == [f"cuda:0: {fault}"]


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x"])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu, cuda or cuda:N"):
        build.device(name)


def test_bf16_only_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device, gpu = torch.device("cuda"), Gpu(monkeypatch, (7, 5))
    assert resolve_precision("auto", device) == "fp32"
    assert resolve_precision("fp16", device) == "fp16"
    with pytest.raises(ConfigError, match="fp16 or fp32"):
        resolve_precision("bf16", device)
    gpu.capability = (8, 0)
    assert resolve_precision("auto", device) == resolve_precision("bf16", device) == "bf16"


def test_each_precision_is_what_it_says() -> None:
    """In fp16, cards without bf16 tried the longest batch in that."""
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with autocast_to(precision, torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_several_gpus_without_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    with pytest.raises(ConfigError, match="NCCL"):
        World(size=2, local_size=2).device(torch.device("cuda"))


def test_a_training_that_goes_on_elsewhere_draws_anew() -> None:
    torch.manual_seed(3)
    saved = randomness.state(torch.device("cpu"))
    following = torch.rand(4)
    assert randomness.restore([saved], torch.device("cpu"), 0, 1, step=7) is None
    assert torch.equal(torch.rand(4), following)
    on_gpu = {**saved, "cuda": saved["cpu"]}
    for states, device, said in (
        ([saved], "cuda", "on a CPU before, on a GPU now"),
        ([on_gpu], "cpu", "on a GPU before, on a CPU now"),
        ([saved, saved], "cpu", "2 processes before, 1 now"),
    ):
        torch.manual_seed(3)
        assert randomness.restore(states, torch.device(device), 0, 1, step=7) == said
        assert not torch.equal(torch.rand(4), following)
