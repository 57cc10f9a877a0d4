//! All that is particular to a runtime or an engine: how its cgroups are called, where its records and names are, and what
//! they look like. To add a runtime, write its file with a [`RuntimeRow`], and add it to [`Runtime`] and to [`ROWS`].

pub(super) mod containerd;
pub(super) mod crio;
mod crun;
pub(super) mod details;
pub(super) mod docker;
pub(super) mod kata;
mod kind;
pub(super) mod kube;
pub(super) mod lxc;
pub(super) mod machine;
pub(super) mod names;
pub(super) mod pattern;
pub(super) mod podman;
pub(super) mod record;
pub(super) mod roots;
mod row;
mod runc;
mod youki;

pub use kind::Runtime;
pub(super) use row::{DetailsQuery, RuntimeRow};

/// Every runtime, in the order of [`Runtime`]. A name or a record is read as the first one's that it fits.
pub(super) static ROWS: [&RuntimeRow; 10] = [
    &docker::ROW,
    &podman::ROW,
    &containerd::ROW,
    &crio::ROW,
    &lxc::ROW,
    &machine::ROW,
    &runc::ROW,
    &crun::ROW,
    &youki::ROW,
    &kata::ROW,
];

impl Runtime {
    /// All that the resolver knows of the runtime.
    pub(super) fn row(self) -> &'static RuntimeRow {
        ROWS[self as usize]
    }

    /// The reason why the runtime's containers can't be frozen by their cgroups, where they can't.
    pub(super) fn refusal(self) -> Option<&'static str> {
        self.row().refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runtime_has_its_row_and_the_name_that_json_has() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.runtime as usize, at, "{}", row.runtime);
            let json = serde_json::to_value(row.runtime).unwrap();
            assert_eq!(json, row.runtime.name());
        }
    }
}
