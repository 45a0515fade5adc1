package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// systemdLimits are of a machine that gets no further than its limits: there is no KVM where it is started.
const systemdLimits = `[boot]
kernel = "/bin/true"
[limits]
cpu_max    = "150%"
memory_max = "400M"
pids_max   = 300
vcpu_share = 200
`

// putMinivmm puts this program and a configuration with limits on a Debian disk.
func putMinivmm(t *testing.T, disk string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(config, []byte(systemdLimits), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, request := range []string{"write " + self + " /root/minivmm", "sif /root/minivmm mode 0100755", "write " + config + " /root/limits.toml"} {
		if out, err := exec.Command("debugfs", "-w", "-R", request, disk).CombinedOutput(); err != nil {
			t.Fatalf("debugfs: %v: %s", err, out)
		}
	}
}

// systemdMakesScopes runs minivmm in a guest where systemd manages the cgroups: from a login without one of its own, in a
// service to which none is delegated, and in one to which one is. Nothing is left of any, failed units neither.
func systemdMakesScopes(m *running) {
	run := fmt.Sprintf("%s=1 HOME=/root /root/minivmm run /root/limits.toml", realVar)
	for range 2 {
		m.order(run+"; echo en''ded=$?", `limits: systemd made minivmm-limits\.scope for this machine[^$]*/dev/kvm[^$]*ended=4\s`)
	}
	for _, c := range []struct{ delegate, want string }{
		{"no", `vm\.service is of a service to which systemd has not delegated it: permission denied \(systemctl edit vm\.service: \[Service\] Delegate=yes\)[^$]*ended`},
		{"yes", `/dev/kvm[^$]*ended`},
	} {
		m.order("printf '[Service]\\nType=oneshot\\nStandardError=file:/run/vm.log\\nSuccessExitStatus=4\\nDelegate="+c.delegate+"\\nExecStart=/usr/bin/env "+run+"\\n' > /run/systemd/system/vm.service; "+
			"rm -f /run/vm.log; systemctl daemon-reload; systemctl start vm; cat /run/vm.log; echo en''ded", c.want)
	}
	m.order("until ! systemctl list-units --all --plain --no-legend | grep minivmm; do sleep .1; done; find /sys/fs/cgroup -name '*minivmm*' | wc -l | sed s/^/left=/", `left=0\s`)
	m.order("systemctl --failed --no-legend | wc -l | sed s/^/failed=/", `failed=0\s`)
}
