//! Rectangles as large as what they stand for, as square as can be.
//!
//! Squarified treemap, after M. Bruls, K. Huizing, J. van Wijk: "Squarified Treemaps" (2000): items, largest first, are put in a row along the
//! shorter side as long as that makes the worst of the row more square.

/// A place in the picture; in its units, from the upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    /// What is left with a margin of `by` on all sides, and one of `above` more on top; nothing where there is no room.
    pub(super) fn inside(self, by: f64, above: f64) -> Self {
        Self {
            x: self.x + by,
            y: self.y + by + above,
            width: (self.width - 2.0 * by).max(0.0),
            height: (self.height - 2.0 * by - above).max(0.0),
        }
    }

    pub(super) fn size(self) -> f64 {
        self.width * self.height
    }
}

/// Divides `area` among `weights`, which are sorted, largest first. One area for each; empty ones where there is nothing to divide.
pub(super) fn divide(weights: &[u64], area: Area) -> Vec<Area> {
    let total: f64 = weights.iter().map(|weight| number(*weight)).sum();
    let empty = Area { width: 0.0, height: 0.0, ..area };
    let mut out = Vec::with_capacity(weights.len());
    if total <= 0.0 || area.size() <= 0.0 {
        out.resize(weights.len(), empty);
        return out;
    }
    let scale = area.size() / total;
    let sizes: Vec<f64> = weights.iter().map(|weight| number(*weight) * scale).collect();
    let (mut rest, mut free) = (sizes.as_slice(), area);
    while !rest.is_empty() {
        let (row, behind) = rest.split_at_checked(row_length(rest, free)).unwrap_or((rest, &[]));
        free = place(row, free, &mut out);
        rest = behind;
    }
    out
}

/// How many of the first items make the best row along the shorter side; at least one.
fn row_length(sizes: &[f64], free: Area) -> usize {
    let side = free.width.min(free.height);
    let largest = sizes.first().copied().unwrap_or(0.0);
    let (mut sum, mut best) = (0.0, f64::INFINITY);
    for (at, size) in sizes.iter().enumerate() {
        sum += size;
        let worst = (side * side * largest / (sum * sum)).max(sum * sum / (side * side * size));
        // Not a number where nothing has a size: all of them are one row then.
        if worst > best {
            return at;
        }
        best = best.min(worst);
    }
    sizes.len().max(1)
}

/// Puts a row along the shorter side, and says what is free behind it.
fn place(row: &[f64], free: Area, out: &mut Vec<Area>) -> Area {
    let sum: f64 = row.iter().sum();
    let upright = free.width >= free.height;
    let side = if upright { free.height } else { free.width };
    let thick = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for size in row {
        let long = if thick > 0.0 { size / thick } else { 0.0 };
        out.push(match upright {
            true => Area { x: free.x, y: free.y + at, width: thick, height: long },
            false => Area { x: free.x + at, y: free.y, width: long, height: thick },
        });
        at += long;
    }
    match upright {
        true => Area { x: free.x + thick, width: (free.width - thick).max(0.0), ..free },
        false => Area { y: free.y + thick, height: (free.height - thick).max(0.0), ..free },
    }
}

/// Bytes as a number to divide with; what is lost beyond 2^53 is no pixel.
#[allow(clippy::cast_precision_loss)]
pub(super) fn number(bytes: u64) -> f64 {
    bytes as f64
}
