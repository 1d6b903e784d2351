"""The colours of a picture, light and dark, and its fonts; as CSS that touches nothing else."""

from __future__ import annotations

__all__ = ["STYLE"]

_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_SANS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"

_LIGHT = {
    "page": "#ffffff", "ink": "#0f172a", "soft": "#475569", "line": "#64748b",
    "generate": "#dbeafe", "generate-edge": "#2563eb",
    "choose": "#ede9fe", "choose-edge": "#7c3aed",
    "check": "#ffedd5", "check-edge": "#ea580c",
    "refine": "#ccfbf1", "refine-edge": "#0d9488",
    "step": "#f1f5f9", "step-edge": "#94a3b8",
    "decision": "#fef9c3", "decision-edge": "#a16207",
    "start": "#e2e8f0", "start-edge": "#475569",
    "end": "#dcfce7", "end-edge": "#16a34a",
    "fault": "#fee2e2", "fault-edge": "#dc2626",
    "frame": "#f8fafc", "frame-edge": "#94a3b8",
    "carry": "#1d4ed8",
    "hue0": "#0369a1", "hue1": "#b45309", "hue2": "#be185d",
    "hue3": "#15803d", "hue4": "#6d28d9", "hue5": "#b91c1c",
}  # fmt: skip
_DARK = {
    "page": "#0f172a", "ink": "#f1f5f9", "soft": "#cbd5e1", "line": "#94a3b8",
    "generate": "#172d5c", "generate-edge": "#60a5fa",
    "choose": "#341c69", "choose-edge": "#a78bfa",
    "check": "#512508", "check-edge": "#fb923c",
    "refine": "#0c403d", "refine-edge": "#2dd4bf",
    "step": "#1e293b", "step-edge": "#64748b",
    "decision": "#453206", "decision-edge": "#eab308",
    "start": "#334155", "start-edge": "#94a3b8",
    "end": "#0f4024", "end-edge": "#4ade80",
    "fault": "#521515", "fault-edge": "#f87171",
    "frame": "#16213a", "frame-edge": "#64748b",
    "carry": "#93c5fd",
    "hue0": "#38bdf8", "hue1": "#fbbf24", "hue2": "#f472b6",
    "hue3": "#4ade80", "hue4": "#c4b5fd", "hue5": "#fca5a5",
}  # fmt: skip
_FILLED = ("generate", "choose", "check", "refine", "step", "decision", "start", "end", "fault")


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--af-{name}:{value}" for name, value in colours.items())


def _rules() -> list[str]:
    at = ".aflow-picture"
    rules = [
        f"{at}{{{_variables(_LIGHT)};max-width:100%;height:auto}}",
        f"@media (prefers-color-scheme:dark){{{at}{{{_variables(_DARK)}}}}}",
        f"{at} .page{{fill:var(--af-page)}}",
        f"{at} text{{fill:var(--af-ink);font-family:{_MONO}}}",
        f"{at} .title{{font-weight:600}}",
        f"{at} .note{{font-family:{_SANS};font-style:italic;fill:var(--af-soft)}}",
        f"{at} .box{{stroke-width:1.3}}",
        f"{at} .jump,{at} .return{{fill:var(--af-page);stroke:var(--af-line)}}",
        f"{at} .jump,{at} .return{{stroke-dasharray:3 3}}",
        f"{at} .fault{{stroke-dasharray:5 3}}",
        f"{at} .frame{{fill:var(--af-frame);stroke:var(--af-frame-edge);stroke-dasharray:5 4}}",
        f"{at} .head{{fill:var(--af-soft)}}",
        f"{at} .pill{{fill:none;stroke:var(--af-line);stroke-width:.8}}",
        f"{at} .pilltext{{fill:var(--af-soft);font-family:{_SANS}}}",
        f"{at} .line{{fill:none;stroke:var(--af-line);stroke-width:1.4}}",
        f"{at} .tip{{fill:var(--af-line);stroke:none}}",
        f"{at} .line.carry{{stroke:var(--af-carry);stroke-width:2}}",
        f"{at} .tip.carry{{fill:var(--af-carry)}}",
        f"{at} .line.data{{stroke-dasharray:4 3;stroke-width:1.3}}",
        f"{at} .word{{fill:var(--af-soft);paint-order:stroke;stroke:var(--af-page);"
        "stroke-width:3px;stroke-linejoin:round}",
        f"{at} .word.carry{{fill:var(--af-carry)}}",
    ]
    rules += [
        f"{at} .box.{name}{{fill:var(--af-{name});stroke:var(--af-{name}-edge)}}"
        for name in _FILLED
    ]
    for hue in range(6):
        rules.append(f"{at} .line.hue{hue}{{stroke:var(--af-hue{hue})}}")
        rules.append(f"{at} .tip.hue{hue},{at} .word.hue{hue}{{fill:var(--af-hue{hue})}}")
    return rules


STYLE = "\n" + "\n".join(_rules()) + "\n"
"""The style sheet; everything in it is below the class of the picture."""
