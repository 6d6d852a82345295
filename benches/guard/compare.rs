//! Two runs, side by side.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::report::Figures;

/// What of a file counts here.
#[derive(Deserialize)]
struct Run {
    figures: Figures,
}

/// The medians of both files and their ratio, row by row; an error says which file is none.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<String, String> {
    let (a, b) = (read(a)?, read(b)?);
    let mut lines = vec![["", "", "", "A", "B", "B / A"].map(str::to_owned)];
    for figure in &a.figures.0 {
        for row in &figure.rows {
            let Some(other) = b.figures.row(&figure.id, &row.who, &row.what) else {
                continue;
            };
            let ratio = match row.p50 {
                0.0 => "–".to_owned(),
                before => format!("{:.2}", other.p50 / before),
            };
            let (before, after) = (row.unit.show(row.p50), row.unit.show(other.p50));
            let (who, what) = (row.who.clone(), row.what.clone());
            lines.push([figure.id.clone(), who, what, before, after, ratio]);
        }
    }
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for [id, who, what, a, b, ratio] in lines {
        let [w0, w1, w2, w3, w4, w5] = widths;
        text += &format!("{id:w0$}  {who:w1$}  {what:w2$}  {a:>w3$}  {b:>w4$}  {ratio:>w5$}\n");
    }
    Ok(text)
}

fn read(file: &Path) -> Result<Run, String> {
    let error = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read(file).map_err(|e| error(&e))?;
    serde_json::from_slice(&text).map_err(|e| error(&e))
}
