"""The composition root: the only file that names every concrete class."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import cast

import structlog
import torch
from transformers.utils import logging as transformers_logging

from service.adapter_texts import AdapterTexts
from service.adapters.disk_cache import DiskCache
from service.adapters.limits import AdapterLimits
from service.adapters.registry import AdapterRegistry
from service.adapters.residency import Residency
from service.adapters.store import AdapterStore
from service.api.dependencies import BuildInfo, Services
from service.bootstrap_fleet import Alone, Fleet, place_of, replica_id
from service.check import Checker
from service.compiler.compile_server import CompileServer
from service.compiler.launcher import ChildCompiler
from service.engine.async_engine import AsyncEngine
from service.engine.block_manager import BlockManager
from service.engine.engine import EngineParts
from service.engine.loader import AdapterLoader, LoadObserver
from service.engine.model_runner import ModelRunner
from service.engine.policy import scheduling_policy
from service.engine.scheduler import Scheduler, SchedulerConfig
from service.errors import ConfigurationError
from service.handlers.access import Access
from service.handlers.accounting import adapter_metrics, metrics_by_adapter
from service.handlers.adapter_views import Tier
from service.handlers.adapters import AdapterService
from service.handlers.audit import AuditLog
from service.handlers.generation import GenerationHandler
from service.handlers.imports import ImportPace, ImportService
from service.handlers.lifecycle import Lifecycle
from service.handlers.models import ModelCatalog
from service.handlers.quotas import QuotaGuard
from service.handlers.replica import Replica
from service.handlers.residency import ResidencyReader
from service.handlers.router_state import RouterStateReader
from service.handlers.usage import UsageLedger
from service.handlers.verification import Verifier
from service.handlers.warming import Warmer
from service.import_metrics import ImportMetrics
from service.metrics import Metrics
from service.model.cgroup import processors
from service.model.lanes.build import build_lane, graph_options
from service.model.loader import (
    LoadedBase,
    LoadOptions,
    load_base,
    resolve_device,
    resolve_dtype,
)
from service.model.memory import MemoryOptions, MemoryPlan, plan_memory
from service.model.openmp import release_helpers
from service.model.pool import AdapterPool
from service.model.row_cost import double_position
from service.router_metrics import RouterMetrics, adapter_load_seconds, load_observer
from service.settings import Settings
from service.sources.catalog import SourceCatalog
from service.sources.web_reader import WebReader
from service.telemetry import Telemetry, Tracer
from service.templates.limits import limits_for
from service.templates.renderer import TemplateRenderer

log = structlog.get_logger(__name__)


def build_services(settings: Settings) -> Services:
    """The base is in memory when this returns; threads start when `Services.running` is entered.

    Raises `ConfigurationError` with a sentence when the service cannot start.
    """
    tracer = _tracer(settings)
    limits = _adapter_limits(settings)
    place = place_of(settings)
    store = AdapterStore(place.backends, limits)
    with place.starting("journal"):
        store.open()  # before the base takes its time: the store may be somebody else's
    base, memory = _load(settings)
    server = CompileServer.of(base.description)
    compiler = ChildCompiler(base.description, limits, server, is_base_strict=settings.strict_base)
    # Of its own: a cold load must not wait behind an upload, and what was accepted stays so.
    recompiler = ChildCompiler(base.description, limits, server)
    cache = DiskCache(
        settings.cache_dir / "adapters",
        settings.disk_adapter_bytes,
        base.description,
        rebuild(store, recompiler),
        place.backends.forms,
    )
    base_name = base.description.name
    usage = UsageLedger(place.backends.usage, base_name, settings.usage_flush_s)
    load_seconds = adapter_load_seconds()
    engine = AsyncEngine(
        _engine_parts(settings, base, memory, cache, load_observer(load_seconds, base_name)),
        max_pending=settings.max_waiting + settings.max_num_seqs,
        on_unawaited=lambda load: usage.count_load(load.tenant, load.ref),
    )
    registry = AdapterRegistry()
    audit = AuditLog(store.logs)
    access = Access.over(
        store.logs,
        audit,
        settings.api_keys(),
        store,
        default_limits=settings.tenant_limits,
        may_change=place.may_change,
    )
    adapters = AdapterService(
        store,
        compiler,
        cache,
        registry,
        Verifier(base.description, engine, recompiler),
        base.description,
        limits,
        unload=engine.unload,
        resident_tier=lambda digest: cast("Tier | None", engine.stats().resident.get(digest)),
        is_base_strict=settings.strict_base,
        is_checking_uploads=settings.verify_uploads,
        max_compiled_bytes=min(memory.device_adapter_bytes, settings.host_adapter_bytes),
        audit=audit,
        limits_of=access.limits_of,
        deleted_retention_s=settings.deleted_retention_s,
        pin=engine.pin,
        may_change=place.may_change,
        pinned_bytes=int(settings.pinned_adapter_fraction * settings.host_adapter_bytes),
    )
    import_metrics = ImportMetrics()
    imports = ImportService(
        adapters,
        SourceCatalog(settings, WebReader(settings.source_networks)),
        import_metrics,
        place.import_board,
        _import_pace(settings),
    )
    renderer = TemplateRenderer(limits_for(base.description.max_model_len))
    by_adapter = metrics_by_adapter(settings.metrics_max_adapters, base_name, registry.has)
    replica = Replica(engine, registry, cache, adapters.pins)
    router_state = RouterStateReader(base_name, replica, settings.metrics_max_adapters)
    telemetry = Telemetry(
        Metrics(
            engine.stats,
            by_adapter,
            import_metrics,
            load_seconds,
            RouterMetrics(router_state.read),
            *place.collectors,
            max_tenants=settings.metrics_max_adapters,
        ),
        structlog.get_logger("service.access"),
        tracer,
    )
    build = _build_info(base)
    # The base was loaded on this thread; from here on the engine's computes.
    release_helpers()
    return Services(
        settings=settings,
        base=base.description,
        build=build,
        generation=GenerationHandler(
            base.description,
            AdapterTexts(base.tokenizer, renderer, store.text_folder),
            adapters.visible,
            engine,
            telemetry.metrics,
            sinks=(adapter_metrics(by_adapter, base_name), usage.count),
            quotas=QuotaGuard(place.counters, access.limits_of),
        ),
        adapters=adapters,
        imports=imports,
        models=ModelCatalog(base.description, build.base_created, adapters.visible),
        engine=engine,
        warmer=Warmer(adapters.visible, engine),
        residency=ResidencyReader(replica_id(settings), replica),
        telemetry=telemetry,
        lifecycle=Lifecycle(),
        access=access,
        audit=audit,
        usage=usage,
        degraded=place.degraded,
        running=partial(
            _running,
            place,
            engine,
            adapters,
            imports,
            access,
            usage,
            renderer,
            server,
            settings,
        ),
    )


@asynccontextmanager
async def _running(
    place: Alone | Fleet,
    engine: AsyncEngine,
    adapters: AdapterService,
    imports: ImportService,
    access: Access,
    usage: UsageLedger,
    renderer: TemplateRenderer,
    server: CompileServer,
    settings: Settings,
) -> AsyncIterator[None]:
    if settings.warm_compiler:
        # Now, because importing peft beside running streams would cost them dearly.
        threading.Thread(target=server.start, name="compile-server", daemon=True).start()
    log.info("opening_store")
    with place.starting("tenants", "keys"):
        await access.start()
    await adapters.start()
    log.info("store_ready", adapters=len(adapters.registry.names()))
    engine.start()
    await usage.start()
    try:
        async with place.following(adapters, access):
            await imports.start()
            try:
                yield
            finally:
                await imports.close(settings.drain_timeout_s)
    finally:
        await engine.stop()
        await usage.close()
        await access.close()
        await adapters.close()
        await renderer.close()
        server.close()


def rebuild(store: AdapterStore, compiler: ChildCompiler) -> Callable[[str, Path], Path]:
    """How the cache gets back a compiled form that it has lost: from the store's original."""

    def run(digest: str, work: Path) -> Path:
        return compiler.compile(store.object_folder(digest), work, is_stored=True).compiled

    return run


@contextmanager
def open_checker(settings: Settings) -> Iterator[Checker]:
    """What judges an upload, without what serves it. Raises `ConfigurationError`."""
    limits = _adapter_limits(settings)
    # The numbers of the served device, but on the processor: the device may be in use.
    dtype = resolve_dtype(settings.dtype, resolve_device(settings.device))
    base = _load_base(settings, device="cpu", dtype=str(dtype).removeprefix("torch."))
    server = CompileServer.of(base.description)
    compiler = ChildCompiler(base.description, limits, server, is_base_strict=settings.strict_base)
    sizes = (settings.host_adapter_bytes, settings.device_adapter_bytes)
    try:
        yield Checker(base.description, compiler, limits, min(size for size in sizes if size))
    finally:
        server.close()


def _load_base(settings: Settings, device: str, dtype: str) -> LoadedBase:
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    most = torch.get_num_threads()
    torch.set_num_threads(settings.threads or min(most, processors() or most))
    return load_base(
        LoadOptions(
            base_model=settings.base_model,
            revision=settings.revision,
            served_model_name=settings.model_name,
            device=device,
            dtype=dtype,
            max_model_len=settings.max_model_len,
            quantization=settings.quantization,
            native_folder=settings.cache_dir / "native" if settings.native_kernels else None,
            packs_weights=settings.packed_weights,
        )
    )


def _load(settings: Settings) -> tuple[LoadedBase, MemoryPlan]:
    started = perf_counter()
    log.info("loading_base", model=settings.model_name)
    base = _load_base(settings, settings.device, settings.dtype)
    options = MemoryOptions(
        max_model_len=base.description.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        block_size=settings.block_size,
        kv_bytes=settings.kv_bytes,
        device_adapter_bytes=settings.device_adapter_bytes,
        gpu_memory_utilization=settings.gpu_memory_utilization,
    )
    memory = plan_memory(options, base.past_cost, base.model.device)
    log.info(
        "base_loaded",
        seconds=round(perf_counter() - started, 1),
        architecture=base.description.architecture,
        lane=base.lane.name,
        not_in=dict(base.lane.rejected) or None,
        dtype=base.description.dtype,
        quantization=base.description.quantization,
        fused=str(base.fused),
        device=str(base.model.device),
        sites=len(base.sites),
        kv_tokens=memory.num_blocks * settings.block_size,
        adapter_mib=memory.device_adapter_bytes >> 20,
    )
    return base, memory


def _engine_parts(
    settings: Settings,
    base: LoadedBase,
    memory: MemoryPlan,
    cache: DiskCache,
    observe_load: LoadObserver,
) -> EngineParts:
    device = base.model.device
    residency = Residency(
        memory.device_adapter_bytes, settings.host_adapter_bytes, settings.eviction_policy
    )
    config = SchedulerConfig(
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_mixed_prefill_tokens=settings.max_mixed_prefill_tokens,
        chunked_prefill=base.lane.can_chunk,
        double_position=double_position(base.model.config, base.layers, base.description.sites),
    )
    lane = build_lane(
        base.lane.name,
        base.model,
        base.context,
        base.layers,
        memory.num_blocks,
        settings.block_size,
        graph_options(device, settings.max_num_seqs, base.description.max_model_len),
    )
    blocks = BlockManager(
        memory.num_blocks,
        settings.block_size,
        settings.prefix_cache and lane.store is not None,
        base.length_classes,
    )
    pool = AdapterPool(base.sites, memory.device_adapter_bytes, device, base.context)
    policy = scheduling_policy(settings.scheduling_policy, settings.generated_token_weight)
    return EngineParts(
        scheduler=Scheduler(config, blocks, residency, policy),
        blocks=blocks,
        residency=residency,
        pool=pool,
        runner=ModelRunner(lane),
        loader=AdapterLoader(cache, pool.check, pin_memory=device.type == "cuda"),
        eos_token_ids=base.tokenizer.eos_token_ids,
        cold_load_timeout_s=settings.cold_load_timeout_s,
        lower_tiers=cache.tiers,
        observe_load=observe_load,
    )


def _adapter_limits(settings: Settings) -> AdapterLimits:
    return AdapterLimits(
        max_upload_bytes=settings.max_upload_bytes,
        max_lora_rank=settings.max_lora_rank,
        compile_timeout_s=settings.compile_timeout_s,
        compile_memory_bytes=settings.compile_memory_bytes,
        max_open_uploads=settings.max_open_uploads,
        store_budget_bytes=settings.store_bytes,
    )


def _import_pace(settings: Settings) -> ImportPace:
    return ImportPace(
        timeout_s=settings.source_timeout_s,
        bytes_per_second=settings.source_bytes_per_second,
        num_at_once=settings.max_source_fetches,
        num_at_once_of_tenant=settings.max_tenant_source_fetches,
        kept_s=settings.import_kept_s,
    )


def _tracer(settings: Settings) -> Tracer | None:
    if settings.otlp_endpoint is None:
        return None
    try:
        from service.tracing import otlp_tracer
    except ImportError as error:
        message = "--otlp-endpoint: OpenTelemetry is missing; pip install 'repertoire[tracing]'"
        raise ConfigurationError(message) from error
    return otlp_tracer(settings.otlp_endpoint, metadata.version("repertoire"))


def _build_info(base: LoadedBase) -> BuildInfo:
    config = Path(base.description.folder) / "config.json"
    return BuildInfo(
        version=metadata.version("repertoire"),
        torch=torch.__version__,
        device=str(base.model.device),
        base_created=int(config.stat().st_mtime),
        details=(
            ("lane", base.lane.name),
            ("quantization", base.description.quantization),
            ("fused", str(base.fused)),
        ),
    )
