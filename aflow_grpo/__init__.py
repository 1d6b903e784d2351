"""GRPO for a small policy that writes agent workflows, rewarded by really executing them.

Everything public is named here and imported when it is first used, so that `import aflow_grpo`
costs nothing. `solve` answers a problem, `train` trains a policy; `docs/api.md` lists the names.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aflow_grpo.data.sampler import DomainMix
    from aflow_grpo.data.sources import DataSource
    from aflow_grpo.errors import (
        AFlowError,
        BudgetSpent,
        ConfigError,
        DataError,
        DivergedError,
        ExecutorError,
    )
    from aflow_grpo.llm.settings import LLMSettings
    from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
    from aflow_grpo.llm.tiers import Tier, WriterTier
    from aflow_grpo.operators.base import Operator
    from aflow_grpo.policy.endpoint import EndpointPolicy
    from aflow_grpo.policy.policy import Policy
    from aflow_grpo.policy.settings import LoraSettings, SamplingSettings
    from aflow_grpo.python_api import TrainedRun, evaluate, train
    from aflow_grpo.records import (
        Completion,
        Execution,
        FaultKind,
        Finding,
        LLMCall,
        OperatorCall,
        Problem,
        RewardBreakdown,
        Rollout,
        Score,
        Status,
        Usage,
        VisibleProblem,
        WorkflowSource,
    )
    from aflow_grpo.reward_settings import RewardSettings
    from aflow_grpo.rollout import RolloutSettings
    from aflow_grpo.scoring.settings import ScoringSettings
    from aflow_grpo.training.datamodule import WorkflowDataModule
    from aflow_grpo.training.module import GRPOModule
    from aflow_grpo.training.rollout_callback import RolloutCallback
    from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
    from aflow_grpo.workbench.comparing import RunComparison, compare
    from aflow_grpo.workbench.doctor import doctor
    from aflow_grpo.workbench.doctor.check import Check
    from aflow_grpo.workbench.drawing import draw
    from aflow_grpo.workbench.exporting import export_adapter, export_merged, export_workflow
    from aflow_grpo.workbench.policies import LoadedPolicy, load_policy
    from aflow_grpo.workbench.questions import load_problems, make_problem
    from aflow_grpo.workbench.reporting import write_report
    from aflow_grpo.workbench.runs import Run, read_run
    from aflow_grpo.workbench.solution import Solution
    from aflow_grpo.workbench.solving import Solver, solve
    from aflow_grpo.workflow.spec import OperatorSpec

__version__ = "0.1.0"

__all__ = [
    "AFlowError",
    "BudgetSpent",
    "Check",
    "Completion",
    "ConfigError",
    "DataError",
    "DataSource",
    "DivergedError",
    "DomainMix",
    "EndpointPolicy",
    "EvaluationSettings",
    "Execution",
    "ExecutorError",
    "FaultKind",
    "Finding",
    "GRPOModule",
    "GRPOSettings",
    "LLMCall",
    "LLMSettings",
    "LoadedPolicy",
    "LoraSettings",
    "Operator",
    "OperatorCall",
    "OperatorSpec",
    "OptimizerSettings",
    "Policy",
    "Problem",
    "RewardBreakdown",
    "RewardSettings",
    "Rollout",
    "RolloutCallback",
    "RolloutSettings",
    "Run",
    "RunComparison",
    "SamplingSettings",
    "Score",
    "ScoringSettings",
    "Simulator",
    "SimulatorSettings",
    "Solution",
    "Solver",
    "Status",
    "Tier",
    "TrainedRun",
    "Usage",
    "VisibleProblem",
    "WorkflowDataModule",
    "WorkflowSource",
    "WriterTier",
    "__version__",
    "compare",
    "doctor",
    "draw",
    "evaluate",
    "export_adapter",
    "export_merged",
    "export_workflow",
    "load_policy",
    "load_problems",
    "make_problem",
    "read_run",
    "solve",
    "train",
    "write_report",
]

_WHERE = {
    "AFlowError": "errors",
    "BudgetSpent": "errors",
    "Check": "workbench.doctor.check",
    "Completion": "records",
    "ConfigError": "errors",
    "DataError": "errors",
    "DataSource": "data.sources",
    "DivergedError": "errors",
    "DomainMix": "data.sampler",
    "EndpointPolicy": "policy.endpoint",
    "EvaluationSettings": "training.settings",
    "Execution": "records",
    "ExecutorError": "errors",
    "FaultKind": "records",
    "Finding": "records",
    "GRPOModule": "training.module",
    "GRPOSettings": "training.settings",
    "LLMCall": "records",
    "LLMSettings": "llm.settings",
    "LoadedPolicy": "workbench.policies",
    "LoraSettings": "policy.settings",
    "Operator": "operators.base",
    "OperatorCall": "records",
    "OperatorSpec": "workflow.spec",
    "OptimizerSettings": "training.settings",
    "Policy": "policy.policy",
    "Problem": "records",
    "RewardBreakdown": "records",
    "RewardSettings": "reward_settings",
    "Rollout": "records",
    "RolloutCallback": "training.rollout_callback",
    "RolloutSettings": "rollout",
    "Run": "workbench.runs",
    "RunComparison": "workbench.comparing",
    "SamplingSettings": "policy.settings",
    "Score": "records",
    "ScoringSettings": "scoring.settings",
    "Simulator": "llm.simulator",
    "SimulatorSettings": "llm.simulator",
    "Solution": "workbench.solution",
    "Solver": "workbench.solving",
    "Status": "records",
    "Tier": "llm.tiers",
    "TrainedRun": "python_api",
    "Usage": "records",
    "VisibleProblem": "records",
    "WorkflowDataModule": "training.datamodule",
    "WorkflowSource": "records",
    "WriterTier": "llm.tiers",
    "compare": "workbench.comparing",
    "doctor": "workbench.doctor",
    "draw": "workbench.drawing",
    "evaluate": "python_api",
    "export_adapter": "workbench.exporting",
    "export_merged": "workbench.exporting",
    "export_workflow": "workbench.exporting",
    "load_policy": "workbench.policies",
    "load_problems": "workbench.questions",
    "make_problem": "workbench.questions",
    "read_run": "workbench.runs",
    "solve": "workbench.solving",
    "train": "python_api",
    "write_report": "workbench.reporting",
}
"""Public name -> the module that has it."""

_DEFAULTS = {
    # Nothing leaves the machine unasked.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables that libraries read when they are imported; a user's own settings win."""


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for variable, value in _DEFAULTS.items():
        os.environ.setdefault(variable, value)
    # On import it deplores a package that would be of no use here.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
