// SPDX-License-Identifier: GPL-2.0

//! The table of strategies in Documentation/design.rst against the code.

use crate::map::choose::{
    choose,
    Reach,
    Shape, //
};
use std::collections::BTreeSet;

const DESIGN: &str = include_str!("../../Documentation/design.rst");

/// Returns the rows of the table: device, memory, strategy.
fn rows() -> Vec<[&'static str; 3]> {
    let block = DESIGN
        .split(".. begin: strategies")
        .nth(1)
        .expect("a table");
    let block = block.split(".. end: strategies").next().expect("its end");
    let cells = |line: &'static str| -> Option<[&'static str; 3]> {
        let mut cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        let row = [cells.next()?, cells.next()?, cells.next()?];
        row[2]
            .starts_with('`')
            .then(|| row.map(|cell| cell.trim_matches('`')))
    };
    // A line that goes on begins with spaces.
    let lines = block.lines().filter(|line| !line.starts_with(' '));
    lines.filter_map(cells).collect()
}

/// Returns the first two cells of the row for a device and memory.
fn row_of(reach: Reach, shape: Shape) -> [&'static str; 2] {
    match (reach, shape) {
        (_, Shape::One) => ["any", "one phyr"],
        (Reach::Direct, _) => ["no IOMMU", "several phyrs"],
        (Reach::NoSpace, _) => ["IOMMU without space", "several phyrs"],
        (Reach::Iommu { .. }, Shape::Run) => ["IOMMU", "one run"],
        (Reach::Iommu { packs: true }, Shape::Gaps { fit: true }) => {
            ["IOMMU that packs", "runs that fit"]
        }
        (Reach::Iommu { .. }, Shape::Gaps { .. }) => ["IOMMU", "other runs"],
    }
}

#[test]
fn the_table_is_what_is_chosen() {
    let rows = rows();
    let mut used = BTreeSet::new();
    for reach in [
        Reach::Direct,
        Reach::NoSpace,
        Reach::Iommu { packs: false },
        Reach::Iommu { packs: true },
    ] {
        for shape in [
            Shape::One,
            Shape::Run,
            Shape::Gaps { fit: false },
            Shape::Gaps { fit: true },
        ] {
            let strategy = format!("{:?}", choose(reach, shape));
            let key = row_of(reach, shape);
            let at = rows.iter().position(|row| row[..2] == key);
            let at = at.unwrap_or_else(|| panic!("no row {key:?}"));
            assert_eq!(rows[at][2], strategy, "{reach:?}, {shape:?}");
            used.insert(at);
        }
    }
    assert_eq!(used.len(), rows.len(), "a row that stands for nothing");
}
