//! What runtimes and engines write down, in the form in which real ones were seen to, as far as it matters here.

use serde_json::{Value, json};

use crate::kit::{MadeUp, Process, spelled};

/// runc's `state.json`.
pub(crate) fn runc_state(
    id: &str,
    process: &Process,
    paths: &[(String, String)],
    labels: &[(&str, &str)],
) -> String {
    let paths: serde_json::Map<String, Value> = paths
        .iter()
        .map(|(key, dir)| (key.clone(), Value::from(dir.as_str())))
        .collect();
    let mut labels: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.push(format!("bundle=/run/bundles/{id}"));
    json!({
        "id": id,
        "init_process_pid": process.pid,
        "init_process_start": process.start,
        "created": "2026-11-23T15:44:20.316458294Z",
        "config": {
            "rootfs": format!("/var/lib/rootfs/{id}"),
            "cgroups": {"path": "", "scope_prefix": "", "freezer": "", "memory": 67_108_864, "Systemd": false},
            "labels": labels,
            "mounts": [],
            "namespaces": [{"type": "NEWPID", "path": ""}],
        },
        "rootless": false,
        "cgroup_paths": paths,
        "namespace_paths": {"NEWPID": format!("/proc/{}/ns/pid", process.pid)},
        "external_descriptors": ["/dev/null", "pipe:[1]", "pipe:[2]"],
        "intel_rdt_path": "",
    })
    .to_string()
}

/// crun's `status`.
pub(crate) fn crun_status(id: &str, process: &Process, cgroup: &str, scope: &str) -> String {
    json!({
        "pid": process.pid,
        "process-start-time": process.start,
        "cgroup-path": cgroup,
        "scope": scope,
        "rootfs": format!("/var/lib/rootfs/{id}"),
        "systemd-cgroup": !scope.is_empty(),
        "bundle": format!("/run/bundles/{id}"),
        "created": "2026-11-23T15:44:20.316458294Z",
        "owner": "root",
        "detached": true,
        "external_descriptors": "[\"/dev/null\",\"pipe:[1]\",\"pipe:[2]\"]",
    })
    .to_string()
}

/// An OCI specification, of which crun keeps a copy and every bundle has one.
pub(crate) fn spec(cgroups_path: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|&(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    json!({
        "ociVersion": "1.0.2",
        "hostname": "h",
        "annotations": annotations,
        "linux": {"cgroupsPath": cgroups_path, "namespaces": [{"type": "pid"}]},
    })
    .to_string()
}

/// docker's `config.v2.json`. The name has its slash in front there.
pub(crate) fn docker_config(id: &str, name: &str, process: &Process) -> String {
    json!({
        "State": {
            "Running": true, "Paused": false, "Restarting": false, "Dead": false, "Pid": process.pid,
            "StartedAt": "2026-11-23T15:44:20.344057972Z",
            "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
        },
        "ID": id,
        "Name": name,
        "Config": {
            "Image": "bb:1",
            "Labels": {"a": "b", "com.example.role": "front"},
            "Healthcheck": {
                "Test": ["CMD-SHELL", "/bin/true"], "Interval": 5_000_000_000_u64, "Timeout": 2_000_000_000, "Retries": 3,
            },
        },
        "Image": "sha256:3834",
        "LogPath": format!("/var/lib/docker/containers/{id}/{id}-json.log"),
    })
    .to_string()
}

/// The store that podman and CRI-O share: every container with its names.
pub(crate) fn containers_json(containers: &[(&str, &str)]) -> String {
    let each: Vec<Value> = containers
        .iter()
        .map(|(id, name)| {
            let metadata = json!({"image-name": "localhost/labr-bb:1", "name": name}).to_string();
            json!({"id": id, "names": [name], "image": "3834", "layer": id, "metadata": metadata, "created": "2026-11-23T15:44:20Z"})
        })
        .collect();
    Value::from(each).to_string()
}

/// What machined keeps of a machine, in its own escapes.
pub(crate) fn machine(name: &str, scope: &str, leader: i32) -> String {
    let scope = scope.replace('\\', "\\\\");
    format!(
        "# This is private data. Do not parse.\nNAME={name}\nSCOPE={scope}\nSERVICE=systemd-nspawn\nROOT=/var/lib/machines/{name}\n\
         LEADER={leader}\nCLASS=container\nREALTIME=1795448660000000\nMONOTONIC=880000000\n"
    )
}

/// youki's `state.json`.
pub(crate) fn youki_state(id: &str, pid: i32) -> String {
    json!({
        "ociVersion": "v1.0.2", "id": id, "status": "running", "pid": pid, "bundle": format!("/run/bundles/{id}"),
        "annotations": {}, "created": "2026-11-23T15:44:20.316458294Z", "creator": 0, "useSystemd": false,
    })
    .to_string()
}

/// The usual place of podman's and CRI-O's store.
pub(crate) const STORE: &str = "var/lib/containers/storage/overlay-containers";

impl MadeUp {
    /// A docker container whose path is the same in every hierarchy.
    pub(crate) fn docker(&self, id: &str, name: &str, process: &Process, path: &str) -> &Self {
        self.docker_at(id, name, process, &self.lines(path), &self.recorded(path))
    }

    /// A docker container with these lines and this record.
    pub(crate) fn docker_at(
        &self,
        id: &str,
        name: &str,
        process: &Process,
        lines: &[String],
        recorded: &[(String, String)],
    ) -> &Self {
        let bundle = format!("run/containerd/io.containerd.runtime.v2.task/moby/{id}");
        let data = format!("var/lib/docker/containers/{id}");
        let state = runc_state(id, process, recorded, &[]);
        self.run(process, lines)
            .file(&format!("run/docker/runtime-runc/moby/{id}/state.json"), &state)
            .file(&format!("{bundle}/init.pid"), &process.pid.to_string())
            .file(&format!("{bundle}/runtime"), "runc")
            .file(
                &format!("{bundle}/options.json"),
                r#"{"binary_name":"runc","root":"/var/run/docker/runtime-runc"}"#,
            )
            .file(&format!("{bundle}/config.json"), &spec("", &[]))
            .fifo(&format!("{bundle}/log"))
            .file(
                &format!("{data}/config.v2.json"),
                &docker_config(id, &format!("/{name}"), process),
            )
            .file(
                &format!("{data}/hostconfig.json"),
                r#"{"Memory":67108864,"RestartPolicy":{"Name":"unless-stopped","MaximumRetryCount":0},"CgroupParent":"","Runtime":"runc"}"#,
            )
    }

    /// A container that runc has on record in `root`, with its path the same in every hierarchy.
    pub(crate) fn runc(
        &self,
        root: &str,
        id: &str,
        process: &Process,
        path: &str,
        labels: &[(&str, &str)],
    ) -> &Self {
        let state = runc_state(id, process, &self.recorded(path), labels);
        self.run(process, &self.lines(path))
            .file(&format!("{root}/{id}/state.json"), &state)
    }

    /// A container that crun has on record in `root`.
    pub(crate) fn crun(&self, root: &str, id: &str, process: &Process, path: &str) -> &Self {
        let scope = path.split('/').find(|part| part.ends_with(".scope"));
        let status = crun_status(id, process, path, scope.unwrap_or_default());
        self.run(process, &self.lines(path))
            .file(&format!("{root}/{id}/status"), &status)
            .file(&format!("{root}/{id}/config.json"), &spec(path, &[]))
    }

    /// podman's store.
    pub(crate) fn podman_names(&self, containers: &[(&str, &str)]) -> &Self {
        for (id, _) in containers {
            let userdata = format!("{STORE}/{id}/userdata");
            self.file(
                &format!("{userdata}/config.json"),
                &spec("", &[("io.container.manager", "libpod")]),
            )
            .fifo(&format!("{userdata}/ctl"))
            .fifo(&format!("{userdata}/winsz"));
        }
        self.file(&format!("{STORE}/containers.json"), &containers_json(containers))
    }

    /// The kubelet's link to a container's log.
    pub(crate) fn log_link(&self, pod: &str, namespace: &str, container: &str, id: &str) -> &Self {
        let name = spelled(&format!("{pod}_{namespace}_{container}-{id}.log"));
        let cut = &name[..name.len().min(255)]; // the kubelet cuts what no directory can hold
        self.link(
            &format!("var/log/containers/{cut}"),
            &format!("/var/log/pods/{namespace}_{pod}_POD-UID/{container}/0.log"),
        )
    }
}
