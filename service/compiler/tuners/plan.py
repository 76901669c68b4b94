"""Plans any kind that peft can load: terms where a reader knows the kind, else peft's own layer."""

from dataclasses import replace
from typing import Any

import torch
from peft.tuners.adaption_prompt.layer import _BaseAdaptedAttention
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import PeftType
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper

from service.adapters.limits import AdapterLimits
from service.base import BaseDescription, SiteDescription
from service.compiler.refusals import Refusals
from service.compiler.terms import FrontTokens, Plan, SitePlan, Term, UsedTensor
from service.compiler.tuners import adaption, prompts
from service.compiler.tuners.activated import check_activated, invocation_tokens
from service.compiler.tuners.as_terms import Tensors, TermMaker, own_term, tensor_of
from service.compiler.tuners.base import PeftBase
from service.compiler.tuners.check import Checker
from service.compiler.tuners.config import canonical_config
from service.compiler.tuners.kinds.registry import ADAPTER, UNSERVABLE, NotExact, read_terms
from service.compiler.tuners.load import LoadedUpload, load_upload
from service.compiler.tuners.saved import parameters_by_module
from service.compiler.tuners.walk import replaced_modules
from service.compiler.upload import Upload
from service.operator.snapshot import Snapshot, UnknownPart
from service.operator.terms import Terms


def plan_tuner(
    base: PeftBase,
    upload: Upload,
    description: BaseDescription,
    limits: AdapterLimits,
    refusals: Refusals,
) -> Plan:
    """Raises `AdapterRefused`. Changes `base`: run it in a fork."""
    kind = upload.config["peft_type"]
    if kind in UNSERVABLE:
        message = f"{kind} cannot be served exactly: {UNSERVABLE[kind]}."
        refusals.add("unsupported_kind", "peft_type", message)
        refusals.raise_if_any()
    loaded = load_upload(upload, base, description.dtype, limits, refusals)
    planner = _Planner(base, description, loaded, refusals)
    with torch.inference_mode():
        planner.plan()
    refusals.raise_if_any()
    return Plan(
        kind=kind.lower(),
        rank=_rank(loaded.config),
        config=canonical_config(upload.config),
        tensors=_used_tensors(upload, loaded.used),
        sites=tuple(planner.sites[path] for path in sorted(planner.sites)),
        tables=planner.tables,
        front=planner.front,
    )


class _Planner:
    def __init__(
        self,
        base: PeftBase,
        description: BaseDescription,
        loaded: LoadedUpload,
        refusals: Refusals,
    ) -> None:
        self._base = base
        self._description = description
        self._make = TermMaker(description.dtype, refusals)
        self._sites = {site.path: site for site in description.sites}
        self._checker = Checker(base.modules, base.model.dtype)
        self._loaded = loaded
        self._refusals = refusals
        self._paths = {id(module): path for path, module in base.modules.items()}
        self.sites: dict[str, SitePlan] = {}
        self.tables: dict[str, Term] = {}
        self.front = FrontTokens()
        self._frozen: dict[str, torch.nn.Module] = {}

    def plan(self) -> None:
        config = self._loaded.config
        if config.is_prompt_learning:
            self._plan_prompt()
        elif config.peft_type is PeftType.POLY:
            self.front = FrontTokens(num_tasks=vars(config)["n_tasks"])
        found = list(replaced_modules(self._base))
        for path, module in found:
            self._plan_module(path, module)
        self._check_saved_names(found)
        if not found and not config.is_prompt_learning:
            message = "The adapter touches no module of the base model."
            self._refusals.add("no_target", "target_modules", message)
        changed = self._plan_base_changes()
        invocation = invocation_tokens(config, self._refusals)
        if invocation:
            self.front = replace(self.front, invocation=invocation)
            check_activated(self.sites.values(), changed, self._refusals)

    def _plan_prompt(self) -> None:
        front = prompts.read_prompt(self._loaded.model, self._loaded.config)
        self.front = front.tokens
        problem = prompts.prefix_problem(front, self._description)
        if problem:
            self._refusals.add("unsupported_structure", "peft_type", problem)
            return
        if front.embeddings is not None:
            self._merge(self._base.embedding_path, {"prompt": front.embeddings})
        self.tables = self._make.terms(front.tables)

    def _check_saved_names(self, found: list[tuple[str, torch.nn.Module]]) -> None:
        """peft passes over a name that no module has, and with it over what was trained there."""
        saved = [path for path, module in found if isinstance(module, ModulesToSaveWrapper)]
        for name in getattr(self._loaded.config, "modules_to_save", None) or ():
            if not any(path == name or path.endswith(f".{name}") for path in saved):
                message = f"modules_to_save names {name!r}, which no module of the base has."
                self._refusals.add("no_target", "modules_to_save", message)

    def _plan_base_changes(self) -> list[str]:
        """Biases and norms that the upload replaces; a changed weight is no adapter any more.

        Names of what was replaced.
        """
        before = self._loaded.before
        changed = before.changed(self._base)
        for name in changed:
            path, _, parameter = name.rpartition(".")
            site = self._sites.get(path)
            old = before.small.get(name)
            if site is None or old is None or old.ndim > 1:
                message = f"The upload replaces {name!r} of the base, which is refused."
                self._refusals.add("changes_base", name, message)
                continue
            new = getattr(self._base.modules[path], parameter).detach()
            self._replace_parameter(site, parameter, new, old)
        return changed

    def _plan_module(self, path: str, module: torch.nn.Module) -> None:
        if isinstance(module, ModulesToSaveWrapper):
            self._plan_saved(path, module.modules_to_save[ADAPTER])
        elif isinstance(module, LNTuningLayer):
            self._plan_saved(path, module.ln_tuning_layers[ADAPTER])
        elif isinstance(module, TrainableTokensWrapper):
            self._plan_layer(path, module.token_adapter)
        elif isinstance(module, BaseTunerLayer):
            self._plan_layer(path, module)
        elif isinstance(module, _BaseAdaptedAttention):
            self._plan_adaption(path, module)
        else:
            message = f"peft changes {path!r} in a way that cannot be served."
            self._refusals.add("unsupported_structure", path, message)

    def _plan_saved(self, path: str, module: torch.nn.Module) -> None:
        for below, parameters in parameters_by_module(module).items():
            full = f"{path}.{below}" if below else path
            if self._site(full) is not None:
                plan = self.sites.get(full, SitePlan(full))
                self.sites[full] = replace(plan, parameters=self._make.terms(parameters))

    def _plan_adaption(self, path: str, attention: Any) -> None:
        problem = adaption.problem(attention, self._description)
        if problem:
            self._refusals.add("unsupported_structure", path, f"At {path!r} {problem}.")
            return
        self.tables |= self._make.terms(adaption.read_tables(attention))
        bias = adaption.output_bias(attention)
        if bias is not None:
            self._merge(f"{path}.o_proj", {"d": bias})

    def _plan_layer(self, path: str, layer: Any) -> None:
        site = self._site(path)
        if site is None:
            return
        if id(layer.base_layer) not in self._paths:
            message = f"peft puts two layers on top of each other at {path!r}."
            self._refusals.add("unsupported_structure", path, message)
            return
        try:
            terms = read_terms(layer)
            if terms is not None:
                self._checker.check_terms(site, layer, terms)
        except NotExact as error:
            self._refusals.add(error.code, path, str(error))
            return
        if terms is None:
            self._freeze(site, layer)
        else:
            self._merge(path, terms)

    def _freeze(self, site: SiteDescription, layer: torch.nn.Module) -> None:
        path, snapshot = site.path, Snapshot(self._paths)
        try:
            frozen = snapshot.take(layer)
            self._checker.check_frozen(site, layer, frozen, snapshot.tensors)
        except UnknownPart as error:
            message = f"The layer at {path!r} holds {error}, which cannot be served."
            self._refusals.add("unsupported_structure", path, message)
            return
        except NotExact as error:
            self._refusals.add(error.code, path, str(error))
            return
        tensors = tuple(own_term(tensor) for tensor in snapshot.tensors)
        self.sites[path] = SitePlan(path, layer=frozen, layer_tensors=tensors)
        self._frozen[path] = layer

    def _replace_parameter(
        self, site: SiteDescription, parameter: str, new: torch.Tensor, old: torch.Tensor
    ) -> None:
        plan = self.sites.get(site.path, SitePlan(site.path))
        if site.path in self._frozen:
            self._check_bias(site, old)
        if site.kind in ("linear", "conv1d") and parameter == "bias":
            have = {name: tensor_of(term) for name, term in plan.terms.items()}
            terms = Terms(**{name: have[name] for name in ("c", "turn", "partner") if name in have})
            delta = (new.float() - old.float())[None].clone()
            terms.add_to(delta, delta)
            total = delta[0] + have.get("d", torch.zeros(()))
            self.sites[site.path] = replace(plan, terms=plan.terms | self._make.terms({"d": total}))
        else:
            own = plan.parameters | {parameter: self._make.term(parameter, new)}
            self.sites[site.path] = replace(plan, parameters=own)

    def _check_bias(self, site: SiteDescription, old: torch.Tensor) -> None:
        try:
            self._checker.check_bias(site, self._frozen[site.path], old)
        except NotExact as error:
            self._refusals.add("unsupported_field", "bias", str(error))

    def _merge(self, path: str, terms: Tensors) -> None:
        if terms and self._site(path) is not None:
            plan = self.sites.get(path, SitePlan(path))
            self.sites[path] = replace(plan, terms=plan.terms | self._make.terms(terms))

    def _site(self, path: str) -> SiteDescription | None:
        site = self._sites.get(path)
        if site is None:
            message = f"The module {path!r} cannot carry this kind of adapter here."
            self._refusals.add("unsupported_target", path, message)
        return site


def _rank(config: Any) -> int:
    rank = getattr(config, "r", 0)
    return rank if isinstance(rank, int) else 0


def _used_tensors(upload: Upload, used: frozenset[str]) -> tuple[UsedTensor, ...]:
    return tuple(
        UsedTensor(name, info.dtype, upload.weights.raw(info).reshape(-1))
        for name, info in sorted(upload.infos.items())
        if name in used
    )
