//! The containers of Kubernetes pods, as containerd makes them: runc's, with the pod in their annotations and in the
//! paths of their cgroups.

use std::path::Path;

use kit::engines::{Layout, Vessel};
use kit::in_each_layout;

use crate::bundles::{Runc, own_digits, own_id};

in_each_layout! {
    a_pod_means_its_application_containers_and_never_its_sandbox
    one_container_of_a_pod_is_named_behind_it
    a_sandbox_by_its_id_is_frozen_only_by_force
    pods_of_the_same_name_are_ambiguous
    a_container_of_a_pod_is_told_with_its_pod
}

/// A pod with a sandbox and two containers.
struct Pod {
    namespace: String,
    sandbox: Vessel,
    app: Vessel,
    sidecar: Vessel,
}

impl Pod {
    /// Below a parent of the test's own, in the shape that the kubelet gives it.
    #[track_caller]
    fn new(runc: &Runc, namespace: &str) -> Self {
        let parent = format!("/{}/kubepods/burstable/pod{}", own_id("pods"), own_digits());
        let made = |container: Option<&str>| {
            let id = own_digits();
            let mut annotations = vec![
                ("io.kubernetes.cri.sandbox-namespace", namespace),
                ("io.kubernetes.cri.sandbox-name", "web-0"),
            ];
            match container {
                Some(name) => annotations.extend([
                    ("io.kubernetes.cri.container-type", "container"),
                    ("io.kubernetes.cri.container-name", name),
                    ("io.kubernetes.cri.image-name", "example.org/web:1"),
                ]),
                None => annotations.push(("io.kubernetes.cri.container-type", "sandbox")),
            }
            let path = Path::new(&parent).join(&id);
            runc.container_with(&id, path.to_str().unwrap(), &annotations)
        };
        Self {
            namespace: namespace.to_owned(),
            sandbox: made(None),
            app: made(Some("app")),
            sidecar: made(Some("side-car")),
        }
    }

    fn name(&self) -> String {
        format!("{}/web-0", self.namespace)
    }
}

fn a_pod_means_its_application_containers_and_never_its_sandbox(layout: Layout) {
    let runc = Runc::new(layout);
    let pod = Pod::new(&runc, &own_id("prod"));
    for target in [pod.name(), format!("pod:{}", pod.name())] {
        let ended = runc.iceaxe(["freeze", &target]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        assert_eq!(
            ended.out.lines().count(),
            2,
            "a line for each container: {ended:?}"
        );
        pod.app.is_frozen();
        pod.sidecar.is_frozen();
        pod.sandbox.is_thawed();
        let ended = runc.iceaxe(["-q", "thaw", &target]);
        let said: Vec<&str> = ended.out.lines().collect();
        assert!(said.contains(&format!("{target}/app").as_str()), "{ended:?}");
        assert!(said.contains(&format!("{target}/side-car").as_str()), "{ended:?}");
        pod.app.is_thawed();
        pod.sidecar.is_thawed();
    }
}

fn one_container_of_a_pod_is_named_behind_it(layout: Layout) {
    let runc = Runc::new(layout);
    let pod = Pod::new(&runc, &own_id("prod"));
    let report = runc
        .iceaxe(["freeze", &format!("{}/app", pod.name()), "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], pod.app.id.as_str(), "{report}");
    pod.app.is_frozen();
    pod.sidecar.is_thawed();
    runc.ended(["resume", &pod.app.id]).well();
    for absent in [
        format!("{}/web-0/db", pod.namespace),
        format!("{}/web-1", pod.namespace),
        "no/pod".to_owned(),
    ] {
        runc.iceaxe(["thaw", &absent])
            .refuses(3, &["no container", &absent]);
    }
}

fn a_sandbox_by_its_id_is_frozen_only_by_force(layout: Layout) {
    let runc = Runc::new(layout);
    let pod = Pod::new(&runc, &own_id("prod"));
    runc.iceaxe(["freeze", &pod.sandbox.id, "--json"])
        .is(11, "refused");
    pod.sandbox.is_thawed();
    runc.iceaxe(["freeze", &pod.sandbox.id, "--json", "--force=sandbox"])
        .is(0, "confirmed");
    pod.sandbox.is_frozen();
    runc.iceaxe(["thaw", &pod.sandbox.id, "--json"])
        .is(0, "confirmed");
    pod.sandbox.is_thawed();
}

fn pods_of_the_same_name_are_ambiguous(layout: Layout) {
    let runc = Runc::new(layout);
    let namespace = own_id("prod");
    let (one, other) = (Pod::new(&runc, &namespace), Pod::new(&runc, &namespace));
    for target in [one.name(), format!("{}/app", one.name())] {
        let ids = [&one.app.id, &other.app.id].map(|id| format!("id:{id}"));
        runc.iceaxe(["freeze", &target]).refuses(4, &[&ids[0], &ids[1]]);
    }
    one.app.is_thawed();
    other.app.is_thawed();
}

fn a_container_of_a_pod_is_told_with_its_pod(layout: Layout) {
    let runc = Runc::new(layout);
    let pod = Pod::new(&runc, &own_id("prod"));
    let status = runc.status(&pod.app.id);
    assert_eq!(status["pod"], pod.name(), "{status}");
    assert_eq!(
        (&status["name"], &status["runtime"]),
        (&"app".into(), &"containerd".into()),
        "{status}"
    );
    assert_eq!(status["image"], "example.org/web:1", "{status}");
    assert_eq!(runc.status(&pod.sandbox.id)["pod"], pod.name());
}
