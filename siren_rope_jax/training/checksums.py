"""Checksums of arrays, wherever they are: computed on the devices, the same on any mesh."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt32

from siren_rope_jax.training.mesh import path_name


def checksums(tree: Any) -> dict[str, int]:
    """A checksum of the bits of every array in a tree, by its path: below 2^32."""
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    if not paths:
        return {}
    return dict(zip(paths, np.asarray(_of_leaves(jax.tree.leaves(tree))).tolist(), strict=True))


@jax.jit
def _of_leaves(leaves: list[Array]) -> UInt32[Array, " L"]:
    return jnp.stack([_checksum(leaf) for leaf in leaves])


def _checksum(x: Array) -> UInt32[Array, ""]:
    """The sum, modulo 2^32, of each word mixed with its position: exact in any order.

    The mixing, MurmurHash3's, is a bijection, so a single changed word always changes the sum.
    """
    words = _words(x)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        position = position * np.uint32(size % 2**32) + index
    mixed = words ^ (position * np.uint32(0x9E3779B1))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32) + np.uint32(math.prod(x.shape) % 2**32)


def _words(x: Array) -> Array:
    """The bits of an array as uint32: one word for each element, or two in one more axis."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(x)
    if jnp.iscomplexobj(x):
        return _words(jnp.stack([x.real, x.imag], axis=-1))
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    bits = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return lax.bitcast_convert_type(x, bits).astype(jnp.uint32)
