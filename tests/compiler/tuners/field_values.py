"""For every config field of every kind values that are not its default.

`BY_FIELD` holds for every kind that has the field, unless `BY_KIND` says otherwise.
"""

import dataclasses
from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING


@dataclasses.dataclass(frozen=True)
class With:
    """A value that means nothing, or is not allowed, without some of other fields."""

    value: Any
    others: dict[str, Any]


BY_FIELD: dict[str, tuple[Any, ...]] = {
    # whom it concerns
    "target_modules": (["v_proj"], r".*\.1\.self_attn\.(q|k)_proj", "all-linear"),
    "exclude_modules": (["q_proj"], r".*layers\.0.*"),
    "layers_to_transform": ([1], 0),
    "layers_pattern": (With("layers", {"layers_to_transform": [1]}),),
    "modules_to_save": (["lm_head"], ["norm", "o_proj"]),
    "rank_pattern": ({"q_proj": 2},),
    "alpha_pattern": ({"q_proj": 5},),
    "feedforward_modules": (["v_proj", "down_proj"],),
    # sizes and factors
    "r": (3,),
    "lora_alpha": (5,),
    "alpha": (5,),
    "scaling": (7.0,),
    "use_rslora": (True,),
    # starts of training
    "init_weights": (False,),
    "init_lora_weights": (False, "gaussian"),
    "init_ia3_weights": (False,),
    "d_initial": (0.5,),
    # training
    "lora_dropout": (0.5,),
    "module_dropout": (0.5,),
    "rank_dropout": (0.5,),
    "inference_mode": (True,),
    # layouts
    "fan_in_fan_out": (True,),
    "bias": ("all",),
    # random projections
    "projection_prng_key": (17,),
    "save_projection": (False, True),
    "random_seed": (17,),
    "random_loc_seed": (17,),
    "n_frequency": (20,),
    "n_frequency_pattern": ({"q_proj": 10},),
    # prompts
    "num_virtual_tokens": (3,),
    "token_dim": (32,),
    "num_transformer_submodules": (2,),
    "num_attention_heads": (2,),
    "num_layers": (1,),
    "encoder_hidden_size": (24,),
    # where and by whom
    "task_type": (None, "SEQ_CLS"),
    "auto_mapping": ({"base_model_class": "X", "parent_library": "os"},),
    "peft_version": ("0.1.0",),
    "base_model_name_or_path": ("another/base",),
    "revision": ("main",),
    "use_cayley_neumann": (True, False),
    "num_cayley_neumann_terms": (3, 8),
    "tokenizer_name_or_path": ("no/tokenizer",),
    "tokenizer_kwargs": ({"use_fast": False},),
    "prompt_tuning_init": ("TEXT", "SAMPLE_VOCAB"),
    "prompt_tuning_init_text": ("words",),
    "prompt_tuning_init_state_dict_path": ("/no/file",),
    "prompt_tuning_init_task": (2,),
}
LORA_FIELDS: dict[str, tuple[Any, ...]] = {
    "megatron_config": ({"x": 1},),
    "megatron_core": ("os",),
    "trainable_token_indices": ([5, 9], {"embed_tokens": [9], "lm_head": [5, 6]}),
    "loftq_config": ({"loftq_bits": 4},),
    "eva_config": ({"rho": 1.5},),
    "corda_config": ({"corda_method": "kpm"},),
    "lora_ga_config": ({"direction": "ArB2r"},),
    "use_dora": (True,),
    "velora_config": ({"num_groups": 4},),
    "alora_invocation_tokens": ([5, 9],),
    "use_qalora": (True,),
    "qalora_group_size": (8,),
    "monteclora_config": ({"monteclora_n": 2},),
    "layer_replication": ([[0, 2], [1, 2]],),
    "runtime_config": ({"ephemeral_gpu_offload": True},),
    "lora_bias": (True,),
    "target_parameters": (["down_proj.weight"],),
    "use_bdlora": ({"target_modules_bd_a": ["q_proj"], "nblocks": 2, "match_strict": False},),
    "arrow_config": ({"top_k": 2},),
    "kasa_config": ({"beta": 1e-3},),
    "ensure_weight_tying": (True, With(True, {"modules_to_save": ["embed_tokens"]})),
}
BY_KIND: dict[str, dict[str, tuple[Any, ...]]] = {
    "LORA": LORA_FIELDS,
    "ADALORA": LORA_FIELDS
    | {
        "r": (3,),
        "target_r": (2,),
        "init_r": (4,),
        "tinit": (1,),
        "tfinal": (1,),
        "deltaT": (2,),
        "beta1": (0.5,),
        "beta2": (0.5,),
        "orth_reg_weight": (0.1,),
        "total_step": (20,),
        "rank_pattern": (None,),
    },
    "ADAPTION_PROMPT": {
        "target_modules": ("mlp", "self_attn"),
        "adapter_len": (2,),
        "adapter_layers": (1,),
    },
    "BOFT": {
        "boft_block_size": (8,),
        "boft_block_num": (With(8, {"boft_block_size": 0}),),
        "boft_n_butterfly_factor": (2,),
        "boft_dropout": (0.5,),
        "bias": ("all", "boft_only", "none"),
    },
    "C3A": {
        "block_size": (16,),
        "block_size_pattern": ({"q_proj": 32},),
        "bias": ("all", "c3a_only"),
    },
    "CARTRIDGE": {"num_frozen_tokens": (3,)},
    "CPT": {
        "cpt_token_ids": (With([3, 4], {"cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]}),),
        "cpt_mask": ([1, 0, 1, 1],),
        "cpt_tokens_type_mask": ([4, 3, 2, 1],),
        "opt_weighted_loss_type": ("decay",),
        "opt_loss_decay_factor": (0.5,),
        "opt_projection_epsilon": (0.01,),
        "opt_projection_format_epsilon": (0.01,),
    },
    "DEFT": {
        "decomposition_method": ("qr", "relu"),
        "init_scale": (0.5,),
        "para": (True, False),
        "deft_dropout": (0.5,),
    },
    "DELORA": {"delora_lambda": (3.0,), "lambda_pattern": ({"q_proj": 3.0},)},
    "FROD": {
        "frod_dropout": (0.5,),
        "sparse_rate": (0.5,),
        "regularization_alpha": (0.5,),
        "progressbar": (False,),
        "runtime_offload_base_weight": (True,),
    },
    "GLORA": {
        "config_A_B": ("vector", "constant", "none"),
        "config_C": ("vector", "none"),
        "config_D_E": ("constant", "none"),
    },
    "GRALORA": {"hybrid_r": (0,), "gralora_dropout": (0.5,), "gralora_k": (4,)},
    "HIRA": {"hira_dropout": (0.5,)},
    "HRA": {"apply_GS": (True,), "bias": ("all", "hra_only")},
    "LOHA": {"use_effective_conv2d": (True,)},
    "LOKR": {
        "use_effective_conv2d": (True,),
        "decompose_both": (True,),
        "decompose_factor": (2,),
        "rank_dropout_scale": (True,),
        "init_weights": (False, "lycoris"),
    },
    "MISS": {
        "miss_dropout": (0.5,),
        "mini_r": (With(8, {"init_weights": "mini"}),),
        "init_weights": (False, "bat"),
        "bias": ("all", "miss_only"),
    },
    "MULTITASK_PROMPT_TUNING": {"num_ranks": (3,), "num_tasks": (2,)},
    "OFT": {
        "r": (With(4, {"oft_block_size": 0}),),
        "oft_block_size": (16,),
        "coft": (True,),
        "eps": (With(1e-2, {"coft": True}),),
        "block_share": (True,),
        "bias": ("all", "oft_only"),
    },
    "OSF": {
        "effective_rank": (16,),
        "rank_pattern": ({"q_proj": 8},),
        "target_svd_config": ({"model.layers.0.self_attn.q_proj": 8},),
    },
    "PEANUT": {"depth": (2,), "act_fn": ("relu", "tanh"), "scaling": (0.5,)},
    "POLY": {
        "n_tasks": (4,),
        "n_skills": (2,),
        "n_splits": (1,),
        "poly_type": ("other",),
    },
    "PREFIX_TUNING": {"prefix_projection": (With(True, {"encoder_hidden_size": 16}),)},
    "PSOFT": {
        "psoft_alpha": (3,),
        "psoft_dropout": (0.5,),
        "ab_svd_init": ("pissa_init", "psoft_init"),
        "psoft_svd": ("lowrank",),
        "psoft_svd_lowrank_niter": (With(2, {"psoft_svd": "lowrank"}),),
        "psoft_orth": (False,),
        "psoft_mag_b": (False,),
        "psoft_mag_a": (False,),
        "cayley_neumann_eps": (With(0.1, {"use_cayley_neumann": True}),),
    },
    "PVERA": {"pvera_dropout": (0.5,), "sample_at_inference": (True,), "generator_seed": (3,)},
    "P_TUNING": {
        "encoder_reparameterization_type": ("LSTM",),
        "encoder_num_layers": (3,),
        "encoder_dropout": (0.5,),
    },
    "RANDLORA": {
        "sparse": (True,),
        "very_sparse": (True,),
        "randlora_dropout": (0.5,),
        "randlora_alpha": (7,),
        "bias": ("all", "randlora_only"),
    },
    "ROAD": {"variant": ("road_2", "road_4"), "group_size": (16,)},
    "SHIRA": {"mask_type": ("random",)},
    "SUPERTUNING": {
        "sparsity": (0.5,),
        "select_top": (True, False),
        "save_precomputed_indices": (True, False),
    },
    "TINYLORA": {
        "u": (5,),
        "init_weights": ("uniform",),
        "weight_tying": (0.5, 1.0),
        "projection_seed": (3,),
        "init_v_bound": (0.5,),
        "tinylora_dropout": (0.5,),
        "r": (4,),
    },
    "TRAINABLE_TOKENS": {
        "token_indices": ([5, 6, 7], []),
        "target_modules": (["lm_head"], ["embed_tokens", "lm_head"]),
    },
    "UNILORA": {
        "proj_seed": (3,),
        "theta_d_length": (32,),
        "unilora_dropout": (0.5,),
        "init_theta_d_bound": (0.5,),
        "save_indices": (True, False),
    },
    "VBLORA": {
        "num_vectors": (12,),
        "vector_length": (4,),
        "topk": (3,),
        "save_only_topk_weights": (True,),
        "vblora_dropout": (0.5,),
        "init_vector_bank_bound": (0.5,),
        "init_logits_std": (0.5,),
    },
    "VERA": {"vera_dropout": (0.5,), "bias": ("all", "vera_only")},
    "WAVEFT": {
        "wavelet_family": ("haar", "db2"),
        "use_idwt": (False,),
        "proportional_parameters": (True,),
    },
}  # fmt: skip


def fields_of(kind: str) -> list[str]:
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    return [one.name for one in dataclasses.fields(config) if one.name != "peft_type"]


def changes_of(kind: str, field: str) -> list[dict[str, Any]]:
    """Fields to change together. Raises `KeyError` for a field that nobody thought of."""
    own = BY_KIND.get(kind, {})
    values = own[field] if field in own else BY_FIELD[field]
    return [
        {field: one.value, **one.others} if isinstance(one, With) else {field: one}
        for one in values
    ]
