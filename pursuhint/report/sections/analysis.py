"""The report of an analysis: layer similarity, hint positions and their stability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint._util.text import capital, percent, ranges
from pursuhint.analysis.result import Analysis
from pursuhint.clustering import ALGORITHMS
from pursuhint.clustering.hierarchical import linkage_tree
from pursuhint.features.hint_points import HintPoint, stage_ends
from pursuhint.hints.plan import choose_positions
from pursuhint.report.figures import inertia_curves, silhouette_curves, similarity_heatmap
from pursuhint.report.figures.class_curves import class_curves
from pursuhint.report.figures.interactive import Layer, color_range, live_map_of_layers
from pursuhint.report.figures.layers import dendrogram
from pursuhint.report.figures.ridge_choices import ridge_choices
from pursuhint.report.page_model import AnalysisSection, FigureFolder, Grid, MetricSection, Page, Picture
from pursuhint.report.repeat import repeat_analysis, train_with
from pursuhint.report.text import (
    HINTS_IN_SHORT,
    brief,
    count,
    environment_rows,
    footer,
    image_rows,
    listed,
    metric_title,
    teacher_text,
    teacher_warning,
    toy_limit,
)

MEANING = {
    "cka": "1 means that two layers arrange the images alike up to a rotation and a change of scale, 0 that "
    "they have nothing in common.",
    "debiased-cka": "1 means that two layers arrange the images alike up to a rotation and a change of "
    "scale, 0 that they have nothing in common; few images do not make it larger, and it can fall below 0.",
    "rbf-cka": "1 means that the same images are neighbours in both layers, 0 that being near in one says "
    "nothing about the other.",
    "rbf-cka-pairs": "1 means that the same images are neighbours in both layers, 0 that being near in one "
    "says nothing about the other.",
    "r2cca": "1 means that every direction of one layer can be computed linearly from the other. A layer "
    "with fewer independent directions than channels has less than 1 with itself, so the layers are grouped "
    "by the same measure taken relative to that number.",
    "r2cca-rank": "1 means that every independent direction of the layer that has fewer of them can be "
    "computed linearly from the other.",
    "gcd": "1 means that each layer can be computed linearly from the other; a layer with more independent "
    "directions than another has less than 1 with it.",
    "svcca": "1 means that the directions that hold 99 % of the variance of one layer can be computed "
    "linearly from those of the other, 0 that they have nothing in common.",
    "pwcca": "1 means that what matters most in the layer of the row can be computed linearly from the layer "
    "of the column; the other way round the value may differ.",
    "procrustes": "1 means that one layer is the other, turned and scaled, 0 that they have nothing in "
    "common.",
    "angular-procrustes": "1 means that one layer can be rotated exactly onto the other, 0 that the two "
    "are at a right angle; what is missing to 1 is a distance in the strict sense.",
    "ridge-cca": "1 means that the same can be predicted from both layers by ridge regression, 0 that they "
    "have nothing in common; directions that carry less than 1 % of the variance hardly count.",
    "linear-r2": "The share of the variance of the layer of the row that a linear map from the layer of the "
    "column explains.",
    "mutual-knn": "1 means that every image has the same ten nearest images in both layers, 0 that they "
    "share no more of them than by chance.",
}
"""What a similarity by a metric says, for a reader who does not know the metric."""

_MEMBER = {
    "center": "The middle layer of a group",
    "first": "The first layer of a group",
    "last": "The last layer of a group",
    "medoid": "The layer nearest to the mean of a group",
}


def build_analysis_page(analysis: Analysis, folder: Path, figure_folder: FigureFolder) -> Page:
    """The page of an analysis alone.

    Args:
        analysis: what was found.
        folder: where it lies.
        figure_folder: where pictures go.
    """
    source = analysis.provenance
    plan, metric = analysis.plan, analysis.metrics[0]
    names = [f"{point.module} (position {point.position})" for point in plan.teacher_points]
    how = {"kmeans": "k-means", "segments": "the best contiguous groups"}.get(
        _used(analysis), _used(analysis)
    )
    command = train_with(analysis, folder)
    train = () if command is None else (command,)
    when = "after" if analysis.layers.points[0].activation == "post" else "before"
    return Page(
        title=f"Hint positions for {source.network} on {source.data}",
        subtitle="Which layers of a trained network should teach? An analysis by PursuHint.",
        summary=(
            *teacher_warning(source.accuracy),
            f"Of the {len(analysis.layers.points)} sub-blocks of {source.network}, the hints should come "
            f"from {listed(names)}: chosen by {metric_title(metric)} and {how}, with k = {len(plan)}.",
            *findings_of_choice(analysis, metric, stability=True),
        ),
        question=(f"{HINTS_IN_SHORT} This analysis does that for one teacher; it trains no student.",),
        setting_title="Teacher and data",
        setting=(
            (
                "Teacher",
                teacher_text(
                    f"{source.network}, {len(analysis.layers.points)} sub-blocks", None, source.accuracy
                ),
            ),
            ("Data", f"{source.data}, {_images(analysis)}"),
            *image_rows(source.preprocessing),
            ("Features", f"{when} the last activation of a sub-block, {pooled(source.pooling)}"),
            ("Images a second", f"{analysis.images_per_second:,.0f} on {source.device}"),
        ),
        analysis=build_analysis_section(analysis, figure_folder),
        limits=(
            f"The similarities describe one trained network on {source.num_samples:,} images; another "
            "training of the same network, or other images, may give other groups.",
            "Similar layers need not be equally good teachers. Whether the chosen positions help a student, "
            "only training students can show (pursuhint compare).",
            *_pooling_limit(source.pooling),
            *toy_limit(source.data),
        ),
        repeat=(
            "The first command repeats this analysis."
            + (" The second trains a student with its hint points; any --student goes." if train else ""),
        ),
        commands=(repeat_analysis(analysis), *train),
        recipes=(),
        environment=(
            *environment_rows({}, source),
            ("Seed of the draw of images", str(source.seed)),
            ("CPU threads", str(source.threads)),
            ("Batch size", str(source.batch_size)),
        ),
        footer=footer({}, source),
    )


def _images(analysis: Analysis) -> str:
    taken = f"{analysis.provenance.num_samples:,}"
    if analysis.auto is None:
        return f"{taken} training images"
    return f"{taken} of at most {analysis.auto.available:,} training images, as many as the choice needed"


def build_analysis_section(analysis: Analysis, figure_folder: FigureFolder) -> AnalysisSection:
    """The sections on similarity and on the choice, for any page that has an analysis.

    First how the similarities were computed and what that took; then the positions by every metric and
    clustering algorithm, so that a reader sees whether the choice depends on them; then, for each metric, the
    similarity map, the clusters, and the curves over the number of clusters.
    """
    source = analysis.provenance
    seconds = analysis.seconds
    more = sum(seconds.similarity.values()) + sum(seconds.clustering.values())
    layers, k = len(analysis.layers.points), len(analysis.plan)
    resampling = sum(seconds.stability.values())
    stability = f"; the stability of the choice took another {brief(resampling)}" if seconds.stability else ""
    paragraphs = [
        f"The teacher was shown {source.num_samples:,} training images without augmentation. What each of "
        f"its {layers} sub-blocks computed, {pooled(source.pooling)}, was compared for every pair of "
        f"sub-blocks over all images. The pass over the images took {brief(seconds.collect)}; the "
        f"similarities of all pairs and the groups took {brief(more)} more{stability}.",
    ]
    if analysis.auto is not None:
        paragraphs.append(f"{capital(analysis.auto.sentence())}.")
    if analysis.layers.excluded:
        names = listed([point.module for point in analysis.layers.excluded])
        verb, it = ("does", "it") if len(analysis.layers.excluded) == 1 else ("do", "them")
        paragraphs.append(f"{names} {verb} not vary over these images, so the pictures leave {it} out.")
    position = _position(analysis)
    others = [
        name
        for name in analysis.clusters.clusterings[analysis.metrics[0]]
        if name not in ("kmeans", "segments")
    ]
    more_ways = f"; to compare with, also by {listed([_noun(name) for name in others])}" if others else ""
    choice = (
        f"{count(k, 'hint')} {'was' if k == 1 else 'were'} wanted, so the layers were put into "
        f"{count(k, 'group')}: by k-means, as the paper does, and by the best division of the depth into "
        f"unbroken stretches (best contiguous), which k-means can miss{more_ways}. "
        f"{_MEMBER.get(position, 'One layer of a group')} becomes its hint position.",
        *agreement(analysis),
        *(f"Agreement of {between.sentence()}." for between in analysis.robustness.agreements),
    )
    return AnalysisSection(
        paragraphs=tuple(paragraphs),
        choice=choice,
        positions=_positions_grid(analysis),
        agreement=_agreement_grid(analysis),
        metrics=tuple(_metric_section(analysis, metric, figure_folder) for metric in analysis.metrics),
        classes=_classes(analysis, figure_folder),
    )


def gap_sentence(analysis: Analysis, metric: str) -> str:
    """Inertia of k-means beside that of the best contiguous partition, without a full stop.

    With too few images for the metric, that finding takes its place.
    """
    if metric in analysis.robustness.too_few_samples:
        return capital(analysis.robustness.too_few_samples[metric].sentence())
    found, gap, title = analysis.clusters.clusterings[metric], analysis.gap(metric), metric_title(metric)
    kmeans, best = found["kmeans"], found["segments"]
    if kmeans.labels == best.labels:
        return f"By {title}, k-means found the best contiguous groups (inertia {best.inertia:.3f})"
    shape = "groups" if kmeans.contiguous else "groups that are not contiguous,"
    if gap is None:
        return (
            f"By {title}, k-means stopped at {shape} with an inertia of {kmeans.inertia:.3f}; the best "
            f"contiguous groups have {best.inertia:.3f}, which is not positive, so the difference is no "
            "fraction of it"
        )
    if gap > 0:
        return (
            f"By {title}, k-means stopped at {shape} with an inertia of {kmeans.inertia:.3f}; the best "
            f"contiguous groups have {best.inertia:.3f}, so k-means is {100 * gap:.1f} % above what is "
            "possible"
        )
    return (
        f"By {title}, k-means found {shape} with an inertia of {kmeans.inertia:.3f}, at least as tight as "
        f"the best contiguous groups ({best.inertia:.3f})"
    )


def findings_of_choice(analysis: Analysis, metric: str, *, stability: bool = False) -> tuple[str, ...]:
    """How good the partition is and how far all ways of choosing agree, in sentences.

    The inertia of k-means beside the best contiguous partition is left out where the sentence on a better
    partition says the same.
    """
    found = analysis.choice_agreement(analysis.plan)
    said = found is not None and found.better is not None and found.metric == metric
    gap = "" if said else f"{gap_sentence(analysis, metric)}."
    first = (gap + (_stability(analysis, metric) if stability else "")).strip()
    return (*filter(None, (first,)), *agreement(analysis))


def agreement(analysis: Analysis) -> tuple[str, ...]:
    """Whether a better partition exists, and how far all ways of choosing agree, in sentences."""
    found = analysis.choice_agreement(analysis.plan)
    if found is None:
        return ()
    better = () if found.better is None else (f"{capital(found.better.sentence(_name))}.",)
    return (*better, f"{capital(found.sentence(_name))}.")


def pooled(pooling: str) -> str:
    """The pooling of features, in words."""
    side = pooling.partition(":")[2]
    return {
        "mean": "averaged over space",
        "max": "as its largest values over space",
        "class-token": "as the class token has it",
    }.get(pooling, f"on a grid of {side} x {side} places")


def _pooling_limit(pooling: str) -> tuple[str, ...]:
    """The limitation that pooling brings."""
    if pooling.startswith("none"):
        return ()
    return (
        "Features are pooled over space before they are compared, so what differs only in place does not "
        "count.",
    )


def _stability(analysis: Analysis, metric: str) -> str:
    """Selection stability under resampling of images, or why it was not measured."""
    if metric not in analysis.robustness.stability:
        why = analysis.robustness.no_stability
        return f" Its stability under resampling of images was not estimated: {why}." if why else ""
    return f" {capital(analysis.stability_sentence(metric))}."


def algorithm_title(algorithm: str) -> str:
    """Title of a clustering algorithm in tables."""
    titles = {"kmeans": "k-means", "segments": "best contiguous", "kmedoids": "k-medoids"}
    return titles.get(algorithm, algorithm)


def _metric_section(analysis: Analysis, metric: str, figure_folder: FigureFolder) -> MetricSection:
    """The similarity map by a metric, its clusters, and inertia and silhouette over their number."""
    inertia, silhouette = _curves_over_k(analysis, metric, figure_folder)
    return MetricSection(
        title=capital(metric_title(metric)),
        heatmap=_heatmap(analysis, metric, figure_folder),
        verdict=f"{gap_sentence(analysis, metric)}.{_stability(analysis, metric)}",
        clusters=_clusters_grid(analysis, metric),
        inertia=inertia,
        silhouette=silhouette,
        tree=_tree(analysis, metric, figure_folder),
        ridges=_ridges(analysis, figure_folder) if metric == "ridge-cca" else None,
    )


def _heatmap(analysis: Analysis, metric: str, figure_folder: FigureFolder) -> Picture:
    """The similarity of all pairs of layers, as a picture and as a live map.

    The map is in depth order, not sorted by cluster: contiguous groups are blocks on the diagonal, and a
    cluster that is not contiguous is seen immediately. Clusters, hint positions and stages are drawn at its
    sides to compare the choice with the conventional positions at the ends of stages.
    """
    title, algorithm, candidates = metric_title(metric), _used(analysis), analysis.candidates
    similarity = analysis.similarities[metric]
    labels = analysis.clusters.clusterings[metric][algorithm].labels
    # The positions that this metric would give; the plan has the positions of the first metric.
    hints = {point.position for point in _chosen(analysis, metric, algorithm)}
    conventional = {point.position for point in stage_ends(candidates)}
    stability = analysis.robustness.stability.get(metric)
    frequencies = None if stability is None else stability.frequency
    picture = similarity_heatmap(
        similarity.values.numpy(),
        metric=title,
        clusters=labels,
        hints=sorted(hints),
        conventional=sorted(conventional),
        stages=[point.stage for point in candidates],
        positions=[point.position for point in candidates],
        frequencies=frequencies,
    )
    alt = f"{title} of all pairs of layers"
    live = live_map_of_layers(
        similarity.values.numpy(),
        [
            Layer(
                point.module,
                point.position,
                stage=point.stage,
                cluster=label,
                chosen=point.position in hints,
                conventional=point.position in conventional,
                frequency=None if frequencies is None else frequencies[index],
            )
            for index, (point, label) in enumerate(zip(candidates, labels))
        ],
        metric=title,
        label=alt,
        errors=None if similarity.standard_error is None else similarity.standard_error.numpy(),
    )
    caption = _caption_of_heatmap(analysis, metric)
    return figure_folder.add(f"similarity-{metric}", picture, alt, caption, live=live)


def _caption_of_heatmap(analysis: Analysis, metric: str) -> str:
    """What the similarity map shows, its colours, and the bars beside it."""
    meaning = f"{MEANING[metric]} " if metric in MEANING else ""
    low, high = color_range([analysis.similarities[metric].values.numpy()])
    caption = (
        f"{capital(metric_title(metric))} of every pair of the {len(analysis.candidates)} sub-blocks, from "
        f"the shallowest (top left) to the deepest. {meaning}White frames are the groups (clusters) found by "
        f"{algorithm_title(_used(analysis))}, filled triangles the hint positions that they give"
        f"{', which are the chosen ones' if metric == analysis.metrics[0] else ''}, open ones the "
        "conventional ones; the grey band shows the resolution stages. "
        f"The colours run from {low:g} (dark) to {high:.4g} (bright)."
    )
    stability = analysis.robustness.stability.get(metric)
    if stability is None:
        return caption
    return (
        f"{caption} The bars beside the map show in how many of {stability.halves} random halves of the "
        "images each layer would have been chosen."
    )


def _curves_over_k(
    analysis: Analysis, metric: str, figure_folder: FigureFolder
) -> tuple[Picture | None, Picture | None]:
    """Inertia and silhouette against the number of groups; None for a network with few layers.

    The silhouette has a peak where a number of groups stands out; inertia only falls, and shows where k-means
    ends above the best contiguous partition.
    """
    title, chosen = metric_title(metric), len(analysis.plan)
    inertias, silhouettes = (
        {algorithm_title(name): curve for name, curve in curves.get(metric, {}).items()}
        for curves in (analysis.clusters.curves, analysis.clusters.silhouettes)
    )
    if not inertias or not all(len(curve) > 1 for curve in inertias.values()):
        return None, None
    silhouette = None
    if silhouettes and all(silhouettes.values()):
        silhouette = figure_folder.add(
            f"silhouette-{metric}",
            silhouette_curves(silhouettes, chosen=chosen),
            f"Mean silhouette against the number of groups by {title}",
            "Silhouette: how much nearer a layer is to its own group than to the nearest other one, on "
            "average, from -1 to 1. A number of groups that stands out has a peak here.",
        )
    inertia = figure_folder.add(
        f"inertia-{metric}",
        inertia_curves(inertias, chosen=chosen),
        f"Inertia against the number of groups by {title}",
        "Inertia, the sum of squared distances to the means of the groups, for other numbers of groups. "
        "Where k-means lies above the best contiguous groups, it stopped too early.",
    )
    return inertia, silhouette


def _classes(analysis: Analysis, figure_folder: FigureFolder) -> Picture | None:
    """What the layers say about the classes, if the data have any."""
    curves = analysis.class_curves
    if curves is None:
        return None
    drawn = {
        "labels explained linearly": curves.probe,
        "H-score": curves.h_score,
        "directions in use": curves.participation,
        "within / between classes (NC1)": curves.collapse,
    }
    more = ""
    if curves.quality is not None:
        drawn["knowledge quality"] = curves.quality
        more = (
            " Knowledge quality (arXiv 2511.14981): how far the classes are apart, plus how much features "
            "hold beside that, from single images."
        )
    figure = class_curves(
        drawn,
        positions=[point.position for point in analysis.candidates],
        hints=[point.position for point in analysis.plan.teacher_points],
    )
    return figure_folder.add(
        "classes",
        figure,
        "What every layer says about the classes",
        "What every layer says about the classes, from the same pass over the training images; dotted lines "
        "are the hint positions. Labels explained linearly: the share of the variance of the labels that "
        "least squares on the features explains, corrected for their number. H-score: the share of variance "
        "between classes once every direction counts alike. Directions in use: over how many the variance is "
        "spread (participation ratio). Within / between: how far images scatter around the mean of their "
        "class, relative to the distances of these means; 0 once the classes have collapsed to points."
        + more,
    )


def _ridges(analysis: Analysis, figure_folder: FigureFolder) -> Picture | None:
    """The choice by ridge CCA with other ridges, if it is known."""
    choices = analysis.robustness.ridges
    if choices is None:
        return None
    figure = ridge_choices(
        choices.ridges,
        choices.positions,
        choices.cka,
        positions=[point.position for point in analysis.candidates],
        stages=[point.stage for point in analysis.candidates],
    )
    return figure_folder.add(
        "ridges",
        figure,
        "Hint positions by ridge CCA against its ridge",
        "Hint positions by ridge CCA with other ridges, from the same pass. On the left is CCA (ridge 0), "
        "which weights every direction of a layer alike, on the right CKA, which weights it by its variance; "
        f"the ridge is a share of a layer's variance. In words: {choices.sentence()}. The line marks the "
        "ridge of the map above, the grey bands are resolution stages.",
    )


def _tree(analysis: Analysis, metric: str, figure_folder: FigureFolder) -> Picture | None:
    """The dendrogram of the layers, if they were clustered hierarchically."""
    clustering = analysis.clusters.clusterings[metric].get("hierarchical")
    if clustering is None:
        return None
    title, candidates = metric_title(metric), analysis.candidates
    values = analysis.clustered_similarity(metric).values
    figure = dendrogram(
        linkage_tree(values),
        clusters=clustering.labels,
        hints=[point.position for point in _chosen(analysis, metric, "hierarchical")],
        positions=[point.position for point in candidates],
        names=[point.module for point in candidates],
        measure="distance at which groups are joined (Ward)",
    )
    return figure_folder.add(
        f"tree-{metric}",
        figure,
        f"Tree of the layers that are similar by {title}",
        "Layers that are joined on the left are nearly alike; the further to the right two groups meet, the "
        f"more they differ by {title}. Colours and letters are the groups of hierarchical clustering, bold "
        "the hint positions that they give.",
    )


def _positions_grid(analysis: Analysis) -> Grid:
    """Hint positions by every metric and algorithm, and the conventional ones in the last row."""
    rows = []
    for metric in analysis.metrics:
        for algorithm in analysis.clusters.clusterings[metric]:
            used = (metric, algorithm) == (analysis.metrics[0], _used(analysis))
            name = f"{capital(metric_title(metric))}, {algorithm_title(algorithm)}"
            rows.append((name, *_where(_chosen(analysis, metric, algorithm)), "chosen" if used else ""))
    rows.append(("Stage ends (convention)", *_where(stage_ends(analysis.layers.points)), ""))
    return Grid(("Way of choosing", "Positions", "Sub-blocks", ""), tuple(rows))


def _agreement_grid(analysis: Analysis) -> Grid | None:
    """For each hint position, how many ways of choosing and how many near-optimal partitions have it."""
    found = analysis.choice_agreement(analysis.plan)
    if found is None:
        return None
    stability = analysis.robustness.stability.get(found.metric)
    heads = [capital(head) for head in found.heads(_name)]
    rows = [list(row) for row in found.table()]
    if stability is not None:
        heads.append("In half-samples")
        share = {point.position: each for point, each in zip(analysis.candidates, stability.frequency)}
        for row, position in zip(rows, found.chosen):
            row.append(percent(share[position]))
    return Grid(tuple(heads), tuple(map(tuple, rows)), frozenset(range(1, len(heads))))


def _clusters_grid(analysis: Analysis, metric: str) -> Grid:
    """Members, hint position and inertia of the clusters by every algorithm; letters as in the map."""
    rows = []
    for algorithm, clustering in analysis.clusters.clusterings[metric].items():
        chosen = {point.position for point in _chosen(analysis, metric, algorithm)}
        groups = []
        for cluster in range(clustering.k):
            letter = chr(ord("A") + cluster) if cluster < 26 else str(cluster + 1)
            members = {analysis.candidates[index].position for index in clustering.members(cluster)}
            hint = listed([str(position) for position in sorted(members & chosen)])
            groups.append(f"{letter}: {ranges(sorted(members))} (hint {hint})")
        rows.append((capital(algorithm_title(algorithm)), "; ".join(groups), f"{clustering.inertia:.3f}"))
    return Grid(("Way of grouping", "Groups of layers", "Inertia"), tuple(rows), frozenset({2}))


def _chosen(analysis: Analysis, metric: str, algorithm: str) -> list[HintPoint]:
    """The hint points that a metric and an algorithm give, by the plan's position in a cluster."""
    values = analysis.clustered_similarity(metric).values
    layers = choose_positions(analysis.clusters.clusterings[metric][algorithm], _position(analysis), values)
    return [analysis.candidates[layer] for layer in layers]


def _position(analysis: Analysis) -> str:
    """Which member of a cluster the plan takes."""
    return str(analysis.plan.origin.get("position", "center"))


def _used(analysis: Analysis) -> str:
    """The algorithm that chose the plan."""
    return str(analysis.plan.origin.get("algorithm", "kmeans"))


def _name(name: str) -> str:
    """What people call a metric or an algorithm."""
    return algorithm_title(name) if name in ALGORITHMS else metric_title(name)


def _noun(algorithm: str) -> str:
    return {"hierarchical": "hierarchical clustering"}.get(algorithm, algorithm_title(algorithm))


def _where(points: Sequence[HintPoint]) -> tuple[str, str]:
    return ", ".join(str(point.position) for point in points), ", ".join(point.module for point in points)
