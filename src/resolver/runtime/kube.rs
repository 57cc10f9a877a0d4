//! Kubernetes: from a pod's name to its containers. The kubelet names a link to each container's log after both, and
//! containerd and CRI-O keep the pod's name among the annotations; the first is one listing, the second outlives it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::record::Pod;
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::StateDir;
use crate::resolver::target::is_hex;

/// The directory with the links.
const LOGS: &str = "/var/log/containers";

/// A container of a pod as its log's link has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) pod: Pod,
    /// The ID, or as much of it as the longest name of a file leaves.
    pub(crate) id: String,
}

/// Every link that names one of a pod's containers.
///
/// # Errors
///
/// The links are there and can't be listed.
pub(crate) fn links(host: &Host, namespace: &str, pod: &str) -> Result<Vec<Link>> {
    let Some(dir) = StateDir::open(&host.path(LOGS))? else {
        return Ok(Vec::new());
    };
    let names = dir.names()?;
    let links = names.iter().filter_map(|name| parse(name));
    Ok(links
        .filter(|link| link.pod.namespace == namespace && link.pod.name == pod)
        .collect())
}

/// The path of the kubelet's link to a container's log; `None` where there is none.
pub(crate) fn log(host: &Host, pod: &Pod, id: &str) -> Option<PathBuf> {
    let container = pod.container.as_deref()?;
    let name = format!("{}_{}_{container}-{id}.log", pod.name, pod.namespace);
    let path = Path::new(LOGS).join(name);
    // The disk that the link leads to may hang.
    let is_there = nix::sys::stat::lstat(&host.path(LOGS).join(path.file_name()?)).is_ok();
    is_there.then_some(path)
}

/// Reads `<pod>_<namespace>_<container>-<id>.log`. None of the three has an underscore; a container's name can have
/// dashes.
fn parse(name: &OsStr) -> Option<Link> {
    let name = name.to_str()?;
    // A name that was cut at 255 bytes can have lost its ending, and some of the ID.
    let name = name.strip_suffix(".log").unwrap_or(name);
    let mut parts = name.splitn(3, '_');
    let (pod, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let (container, id) = rest.rsplit_once('-')?;
    (is_hex(id.as_bytes()) && !pod.is_empty()).then(|| Link {
        pod: Pod {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
            container: Some(container.to_owned()),
        },
        id: id.to_owned(),
    })
}

/// The pod that a container of cri-dockerd belongs to, which docker's name for it tells:
/// `k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT`. The sandbox is called `POD` there.
pub(crate) fn of_docker_name(name: &str) -> Option<Pod> {
    let parts: Vec<&str> = name.strip_prefix("k8s_")?.split('_').collect();
    let [container, pod, namespace, _, _] = parts[..] else {
        return None;
    };
    Some(Pod {
        namespace: namespace.to_owned(),
        name: pod.to_owned(),
        container: (container != "POD").then(|| container.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";

    #[test]
    fn a_link_names_pod_namespace_container_and_id() {
        let link = parse(OsStr::new(&format!("web-0_prod_my-app-{ID}.log"))).unwrap();
        assert_eq!(
            (link.pod.name.as_str(), link.pod.namespace.as_str()),
            ("web-0", "prod")
        );
        assert_eq!(
            (link.pod.container.as_deref(), link.id.as_str()),
            (Some("my-app"), ID)
        );
        let cut = parse(OsStr::new(&format!("web-0_prod_app-{}", &ID[..20]))).unwrap();
        assert_eq!(cut.id, &ID[..20]);
        for odd in ["web-0_prod.log", "a_b_c.log", "a_b_c-xyz.log", "", "_b_c-12.log"] {
            assert_eq!(parse(OsStr::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn docker_names_of_pods_are_read() {
        let pod = of_docker_name("k8s_app_web-0_prod_3d6f1c2e_0").unwrap();
        assert_eq!(
            (pod.name.as_str(), pod.container.as_deref()),
            ("web-0", Some("app"))
        );
        assert_eq!(
            of_docker_name("k8s_POD_web-0_prod_3d6f1c2e_0").unwrap().container,
            None
        );
        assert_eq!(of_docker_name("k8s_web"), None);
        assert_eq!(of_docker_name("web"), None);
    }
}
