"""One-pass scores the dull way: one frame at a time, one threshold at a time, as the Matlab toolkits are written."""

import math


def overlap(a, b):
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if any(math.isnan(v) for v in (*a, *b)):
        return math.nan
    common = w * h if w > 0 and h > 0 and min(a[2], a[3], b[2], b[3]) > 0 else 0.0
    union = max(a[2], 0) * max(a[3], 0) + max(b[2], 0) * max(b[3], 0) - common
    return common / union if union > 0 else 0.0


def distance(a, b):
    return math.hypot(a[0] + (a[2] - 1) / 2 - b[0] - (b[2] - 1) / 2, a[1] + (a[3] - 1) / 2 - b[1] - (b[3] - 1) / 2)


def relative(a, b, tiny=0.0):
    dx, dy = a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2
    if tiny == 0 and not (b[2] > 0 and b[3] > 0):
        return math.nan
    dx, dy = dx / (b[2] + tiny), dy / (b[3] + tiny)
    return math.sqrt(dx * dx + dy * dy)  # not hypot, whose last digit may fall on the other side of a threshold


def has_nan(box):
    return any(math.isnan(v) for v in box)


def replaced(boxes, truth, lacking):
    boxes = [list(box) for box in boxes]
    for i in range(1, len(boxes)):
        if lacking(boxes[i]) and not has_nan(truth[i]):
            boxes[i] = list(boxes[i - 1])
    return boxes


def otb(boxes, truth, visible, size):
    def lacking(box):
        if visible is not None and has_nan(box):
            return True
        return all(math.isnan(v) for v in box) or box[2] <= 0 or box[3] <= 0

    boxes = replaced(boxes, truth, lacking)
    boxes[0] = truth[0]
    measured = []
    for i in range(len(truth)):
        if visible is not None and not visible[i]:
            continue
        x, y, w, h = truth[i]
        if x + 1 > 0 and y + 1 > 0 and w > 0 and h > 0:
            measured.append((overlap(boxes[i], truth[i]), distance(boxes[i], truth[i]), relative(boxes[i], truth[i])))
        else:
            measured.append((-1, -1, -1))
    return measured, len(truth)


def pytracking(boxes, truth, visible, size):
    boxes = replaced(boxes, truth, lambda box: has_nan(box) or box[2] <= 0 or box[3] <= 0)
    boxes[0] = truth[0]
    uav = any(has_nan(box) for box in truth)
    measured, frames = [], 0
    for i in range(len(truth)):
        seen = visible is None or visible[i]
        if truth[i][2] > 0 and truth[i][3] > 0 and seen:
            frames += 1
            measured.append((overlap(boxes[i], truth[i]), distance(boxes[i], truth[i]), relative(boxes[i], truth[i])))
        elif not seen:
            measured.append((-1, math.inf, math.inf))
        else:
            measured.append((-1, -1 if uav else math.inf, -1))
    return measured, len(truth) if uav or visible is not None else frames


def pysot(boxes, truth, visible, size):
    measured = []
    for i in range(len(truth)):
        if visible is not None and not visible[i]:
            continue
        x, y, w, h = truth[i]
        cx, cy = x + (w - 1) / 2, y + (h - 1) / 2
        one = overlap(boxes[i], truth[i]) if w > 0 and h > 0 else -1
        two = distance(boxes[i], truth[i]) if cx > 0 and cy > 0 else -1
        inside = cx / (w + 1e-16) > 0 and cy / (h + 1e-16) > 0
        measured.append((one, two, relative(boxes[i], truth[i], 1e-16) if inside else -1))
    return measured, len(truth)


def got10k(boxes, truth, visible, size):
    def inside(box):
        if size is None:
            return box
        x, y = min(max(box[0] + 1, 0), size[0]), min(max(box[1] + 1, 0), size[1])
        return x, y, min(max(box[2], 0), size[0] - x), min(max(box[3], 0), size[1] - y)

    measured = []
    for i in range(1, len(truth)):
        if has_nan(truth[i]) or (visible is not None and not visible[i]):
            continue
        far = not (truth[i][2] > 0 and truth[i][3] > 0)
        one = math.nan if has_nan(boxes[i]) else overlap(inside(boxes[i]), inside(truth[i]))
        two = math.inf if far else distance(boxes[i], truth[i])
        measured.append((one, two, relative(boxes[i], truth[i])))
    return measured, len(measured)


def lasot(boxes, truth, visible, size):
    return otb(boxes, truth, [True] * len(truth) if visible is None else visible, size)


def trackingnet(boxes, truth, visible, size):
    def whole(box):
        return [v if math.isnan(v) else float(round(v)) for v in box]

    boxes, truth = [whole(box) for box in boxes], [whole(box) for box in truth]
    boxes[0] = truth[0]
    measured = []
    for a, b in zip(boxes, truth, strict=True):
        far = math.inf if has_nan(a) or not (b[2] > 0 and b[3] > 0) else distance(a, b)
        measured.append((overlap(a, b), far, relative(a, b)))
    return measured, len(truth)


RULES = {
    "otb": otb,
    "pytracking": pytracking,
    "pysot": pysot,
    "got10k": got10k,
    "lasot": lasot,
    "trackingnet": trackingnet,
}


def curves(boxes, truth, rules, visible=None, size=None):
    """Success, precision and normalised precision as three lists, and the number of frames."""
    measured, frames = RULES[rules](boxes.tolist(), truth.tolist(), visible, size)
    if frames == 0:
        return [math.nan] * 21, [math.nan] * 51, [math.nan] * 51, 0
    success = [sum(m[0] > k / 20 for m in measured) / frames for k in range(21)]
    precision = [sum(m[1] <= k for m in measured) / frames for k in range(51)]
    normalised = [sum(m[2] <= k / 100 for m in measured) / frames for k in range(51)]
    return success, precision, normalised, frames
