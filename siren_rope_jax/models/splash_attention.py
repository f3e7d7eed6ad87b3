"""Softmax attention by JAX's splash kernel for TPUs, which never writes logits to memory.

It knows causality and segments but no bias. On other machines it is interpreted, for tests.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from siren_rope_jax.models.partition import Partition
from siren_rope_jax.models.relation import Relation

_LANES = 128
"""Events of a block are a multiple of these."""
_BLOCK = 512


def softmax_attention(
    q_BxLxHxK: Float[Array, "B L H K"],
    k_BxLxHxK: Float[Array, "B L H K"],
    v_BxLxHxK: Float[Array, "B L H K"],
    relation: Relation,
    empty: Float[Array, "H K"] | None,
    *,
    partition: Partition,
) -> Float[Array, "B L H K"]:
    """As `kernels.softmax_attention`, of aligned queries and keys without a bias."""
    length = q_BxLxHxK.shape[1]
    segment = jnp.broadcast_to(jnp.asarray(relation.keys.segment), q_BxLxHxK.shape[:2])
    padding = -length % _LANES
    scaled = q_BxLxHxK / math.sqrt(q_BxLxHxK.shape[-1])

    def by_head(x: Array) -> Float[Array, "B H L D"]:
        x = jnp.pad(x.astype(v_BxLxHxK.dtype), ((0, 0), (0, padding), (0, 0), (0, 0)))
        return x.swapaxes(1, 2)

    arrays = (by_head(scaled), by_head(k_BxLxHxK), by_head(v_BxLxHxK))
    segments = jnp.pad(segment, ((0, 0), (0, padding)))
    attend = partial(_attend, relation.strict, partition.platform != "tpu")
    if partition.mesh is not None and partition.mesh.size > 1:
        batch, _, heads, _ = partition.spec(("batch", None, "heads", None), q_BxLxHxK.shape)
        of_array = PartitionSpec(batch, heads)
        attend = jax.shard_map(
            attend,
            mesh=partition.mesh,
            in_specs=(of_array, of_array, of_array, PartitionSpec(batch)),
            out_specs=of_array,
            check_vma=False,
        )
    out = attend(*arrays, segments).swapaxes(1, 2)[:, :length]
    if empty is None:
        return out
    return jnp.where(_sees(segment, relation.strict)[..., None, None], out, empty)


def _attend(strict: bool, interpret: bool, q: Array, k: Array, v: Array, segment: Array) -> Array:
    """Of one device: [B, H, L, D]."""
    heads, length = q.shape[1:3]
    block = math.gcd(length, _BLOCK)
    sizes = kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        use_fused_bwd_kernel=True,
    )
    causal = masks.CausalMask((length, length), offset=-1 if strict else 0)
    # The mask is a constant of the program, also where it is made while a function is traced.
    with jax.ensure_compile_time_eval():
        attend: Any = kernel.make_splash_mha(
            mask=masks.MultiHeadMask([causal] * heads),
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
    return jax.vmap(attend)(q, k, v, segment_ids=kernel.SegmentIds(q=segment, kv=segment))


def _sees(segment: Array, strict: bool) -> Array:
    """[B, L]: whether an event sees any, which strictly none does that begins a segment."""
    if not strict:
        return segment > 0
    begins = jnp.diff(segment, axis=-1, prepend=-1) != 0
    return (segment > 0) & ~begins
