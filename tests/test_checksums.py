"""Checksums of arrays: of every type, on every mesh, and moved by every change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from siren_rope_jax.training.checksums import checksums
from siren_rope_jax.training.mesh import make_mesh

ARRAYS = {
    "float32": np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3),
    "bfloat16": np.linspace(-1, 1, 16).astype(jnp.bfloat16),
    "int8": np.arange(-8, 8, dtype=np.int8),
    "int32": np.arange(16, dtype=np.int32),
    "uint32": np.arange(16, dtype=np.uint32) + 2**31,
    "bool": np.arange(16) % 3 == 0,
    "complex64": np.exp(1j * np.arange(16)).astype(np.complex64),
    "scalar": np.float32(3),
    "empty": np.zeros((0, 3), np.float32),
}


def test_every_array_has_its_own_by_path():
    tree = {"a": {"b": jnp.ones(3)}, "keys": jax.random.split(jax.random.key(0), 2)}
    assert list(checksums(tree)) == ["a/b", "keys"] and checksums({}) == {}
    other = tree | {"keys": jax.random.split(jax.random.key(1), 2)}
    assert checksums(other)["a/b"] == checksums(tree)["a/b"]
    assert checksums(other)["keys"] != checksums(tree)["keys"]


@pytest.mark.parametrize("name", ARRAYS)
def test_any_sharding_gives_the_same(name):
    array, mesh = ARRAYS[name], make_mesh()
    rows = PartitionSpec("data") if array.ndim and array.shape[0] else PartitionSpec()
    spread = jax.device_put(array, NamedSharding(mesh, rows))
    assert checksums([spread]) == checksums([jnp.asarray(array)])


@pytest.mark.parametrize("name", [n for n in ARRAYS if n not in ("empty", "bool")])
def test_every_flipped_bit_moves_it(name):
    array = np.atleast_1d(ARRAYS[name])
    before = checksums([jnp.asarray(array)])
    for byte in range(array.nbytes):
        for bit in (1, 0x80):
            changed = array.copy()
            changed.view(np.uint8).reshape(-1)[byte] ^= bit
            assert checksums([jnp.asarray(changed)]) != before


def test_exchanged_values_move_it():
    array = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    assert checksums([jnp.asarray(array)]) != checksums([jnp.asarray(array[::-1])])
    flipped = np.where(np.arange(32).reshape(8, 4) < 2, -array, array)  # two sign bits
    assert checksums([jnp.asarray(array)]) != checksums([jnp.asarray(flipped)])
