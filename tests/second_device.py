"""A device that is not the CPU, imitated on it: its tensors mix with the CPU's no better than a GPU's do.

A machine without a GPU can't tell whether a GPU computes well. It can tell whether tensors are where they have to
be, which is what most often goes wrong in code that has run on a CPU only. Each tensor of the device holds one of
the CPU, and hands on to it whatever is done; where a CPU's tensor is among the arguments, it fails with a GPU's
message.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class _Module(_DummyBackendModule):
    """What torch asks of the device, apart from its tensors."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("imitated", _Module())
DEVICE = torch.device("imitated", 0)

aten = torch.ops.aten
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
OF_THE_CPU_TOO: dict[Any, tuple[int, ...]] = {
    aten.copy_.default: (0, 1),
    aten._to_copy.default: (0,),
    aten.index.Tensor: (1,),
    aten.index_put.default: (1,),
    aten.index_put_.default: (1,),
    aten._index_put_impl_.default: (1,),
    aten._ctc_loss.Tensor: (2, 3),
    aten._ctc_loss_backward.Tensor: (3, 4),
    aten._pack_padded_sequence.default: (1,),
    aten._pack_padded_sequence_backward.default: (2,),
    aten._pad_packed_sequence.default: (1,),
}
"""Which arguments of operations on a GPU may be the CPU's: what is copied, indices, lengths."""
FETCHED: list[str] = []
"""By which operations the CPU has asked for numbers, for which it would have waited for a GPU."""


class Imitated(Tensor):
    """A tensor on the device; `held`, on the CPU, has its numbers."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> Imitated:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(function, args, kwargs or {})

    def as_held(self) -> None:
        """Take the shape that `held` has been given in place."""
        with torch._C._DisableTorchDispatch():
            aten.as_strided_.default(self, self.held.size(), self.held.stride(), self.held.storage_offset())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        FETCHED.append("tolist")
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"on {DEVICE}: {self.held}"


class _Generator(torch.Generator):
    """One of any device."""

    there: ClassVar[dict[int, torch.Generator]] = {}  # kept, as another could have the identity of one that is gone

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        made = super().__new__(cls)
        if torch.device(device) == DEVICE:
            cls.there[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE if self._cdata in self.there else torch.device("cpu")


class _Made(TorchDispatchMode):
    """Tensors that are made on the device, of nothing that is there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(function, args, kwargs or {})


def begin() -> None:
    """From here on, in this process, there is the device."""
    torch.Generator = _Generator  # type: ignore[misc]
    _Made().__enter__()


def _call(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, shape = tree_flatten((args, kwargs))
    there = {id(value.held): value for value in flat if isinstance(value, Imitated)}
    if there and torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE.name):
        with _Made():  # as autograd takes it apart, where it is not switched off
            return function._op_dk(COMPOSITE, *args, **kwargs)
    wanted = kwargs.get("device")
    elsewhere = bool(there) if wanted is None else wanted.type == DEVICE.type
    if there:
        _refuse_those_of_the_cpu(function, args, kwargs)
    generator = kwargs.get("generator")
    if generator is not None and elsewhere != (generator._cdata in _Generator.there):
        raise RuntimeError("the generator is on another device than what is drawn")
    held = [value.held if isinstance(value, Imitated) else value for value in flat]
    held = [torch.device("cpu") if isinstance(value, torch.device) else value for value in held]
    args, kwargs = tree_unflatten(held, shape)
    found = FUSED.get(function, function)(*args, **kwargs)
    if there and (not elsewhere or function is aten._local_scalar_dense.default):
        FETCHED.append(str(function))
    if not elsewhere:
        return found
    if torch.Tag.inplace_view in function.tags:
        flat[0].as_held()
        return flat[0]
    if function is aten.copy_.default:
        return flat[0]
    if function in {aten._pack_padded_sequence.default, aten._pad_packed_sequence.default}:
        return _there(found[0], there), found[1]
    return tree_map(lambda value: _there(value, there), found)


def _there(value: Any, known: dict[int, Imitated]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if id(value) in known:
        return known[id(value)]
    with torch.inference_mode(value.is_inference()):
        return Imitated(value)


def _refuse_those_of_the_cpu(function: Any, args: Any, kwargs: Any) -> None:
    also = OF_THE_CPU_TOO.get(function, ())
    strict = [argument for position, argument in enumerate(args) if position not in also]
    lenient = torch.Tag.pointwise in function.tags  # with a single number
    for value in tree_flatten((strict, kwargs))[0]:
        if isinstance(value, Tensor) and not isinstance(value, Imitated) and not (lenient and value.ndim == 0):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and cpu! "
                f"({function})"
            )


def _lstm_cell(
    inputs: Tensor,
    hidden: Tensor,
    cell: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, ...]:
    i, f, g, o = _with_biases(inputs, input_bias).add(_with_biases(hidden, hidden_bias)).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    after = f * cell + i * g
    return o * after.tanh(), after, torch.cat([i, f, g, o], 1)


def _lstm_cell_backward(
    of_output: Tensor | None, of_after: Tensor | None, cell: Tensor, after: Tensor, gates: Tensor, biases: bool
) -> tuple[Tensor | None, ...]:
    i, f, g, o = gates.chunk(4, 1)
    of_output = torch.zeros_like(after) if of_output is None else of_output
    of_after = torch.zeros_like(after) if of_after is None else of_after
    of_cell = of_after + of_output * o * (1 - after.tanh() ** 2)
    of_gates = torch.cat(
        [
            of_cell * g * i * (1 - i),
            of_cell * cell * f * (1 - f),
            of_cell * i * (1 - g**2),
            of_output * after.tanh() * o * (1 - o),
        ],
        1,
    )
    return of_gates, of_cell * f, of_gates.sum(0) if biases else None


def _gru_cell(
    inputs: Tensor,
    hidden: Tensor,
    before: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, ...]:
    (ir, iz, i_new), (hr, hz, h_new) = (
        _with_biases(gates, bias).chunk(3, 1) for gates, bias in ((inputs, input_bias), (hidden, hidden_bias))
    )
    r, z = (ir + hr).sigmoid(), (iz + hz).sigmoid()
    new = (i_new + r * h_new).tanh()
    return new + z * (before - new), torch.cat([r, z, new, before, h_new], 1)


def _gru_cell_backward(of_output: Tensor, kept: Tensor, biases: bool) -> tuple[Tensor | None, ...]:
    r, z, new, before, h_new = kept.chunk(5, 1)
    of_new = of_output * (1 - z) * (1 - new**2)
    of_r = of_new * h_new * r * (1 - r)
    of_z = of_output * (before - new) * z * (1 - z)
    of_inputs, of_hidden = torch.cat([of_r, of_z, of_new], 1), torch.cat([of_r, of_z, of_new * r], 1)
    sums = (of_inputs.sum(0), of_hidden.sum(0)) if biases else (None, None)
    return of_inputs, of_hidden, of_output * z, *sums


def _with_biases(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


FUSED = {
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _lstm_cell_backward,
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
}
"""Steps of recurrent layers, which torch has for GPUs only: on the CPU a layer is one step."""
