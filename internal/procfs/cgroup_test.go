package procfs

import (
	"errors"
	"strings"
	"testing"
)

func TestFindCgroup(t *testing.T) {
	const unified = "23 28 0:21 / /sys rw - sysfs sysfs rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	const hybrid = "30 23 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs rw,mode=755\n31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
		"32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n33 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for _, c := range []struct{ name, mounts, own, mount, below, err string }{
		{"unified", unified, "0::/user.slice/a.scope\n", "/sys/fs/cgroup", "/user.slice/a.scope", ""},
		{"the root", unified, "0::/\n", "/sys/fs/cgroup", "/", ""},
		{"hybrid", hybrid, "4:memory:/a\n1:name=systemd:/c\n0::/b\n", "/sys/fs/cgroup/unified", "/b", ""},
		{"only a part is mounted", `30 23 0:26 /docker/1\0402 /sys/fs/my\040cgroup rw - cgroup2 cgroup2 rw`, "0::/docker/1 2/x\n", "/sys/fs/my cgroup", "/x", ""},
		{"that part", "30 23 0:26 /docker/1 /c rw - cgroup2 cgroup2 rw\n", "0::/docker/1\n", "/c", "/", ""},
		{"another part", "30 23 0:26 /docker/1 /c rw - cgroup2 cgroup2 rw\n", "0::/docker/12\n", "", "", "no mounted cgroup version 2 hierarchy contains /docker/12"},
		{"another part and the whole", "30 23 0:26 /docker/1 /c rw - cgroup2 cgroup2 rw\n" + unified, "0::/docker/12\n", "/sys/fs/cgroup", "/docker/12", ""},
		{"version 1", "30 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "4:memory:/\n0::/\n", "", "", "no mounted cgroup version 2 hierarchy contains /"},
		{"no version 2", unified, "4:memory:/\n", "", "", "this host has no cgroup version 2 hierarchy"},
		{"nothing", "", "", "", "", "this host has no cgroup version 2 hierarchy"},
		{"nonsense", "\n - \n1 2 3 - cgroup2\n1 2 3 / - cgroup2", "0::/\n", "", "", "no mounted cgroup version 2 hierarchy contains /"},
	} {
		mount, below, err := findCgroup(c.mounts, UnifiedCgroup(c.own))
		if mount != c.mount || below != c.below || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !errors.Is(err, errors.ErrUnsupported)) {
			t.Errorf("%s: %q, %q, %v", c.name, mount, below, err)
		}
	}
}

func TestFindController(t *testing.T) {
	const mounts = "30 23 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs rw,mode=755\n31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
		"32 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n33 30 0:28 / /sys/fs/cgroup/pids rw shared:4 - cgroup cgroup rw,pids\n"
	for _, c := range []struct{ name, mounts, own, mount, below string }{
		{"version 1", mounts, "4:cpu,cpuacct:/a\n3:pids:/user.slice/b\n0::/c\n", "/sys/fs/cgroup/pids", "/user.slice/b"},
		{"among others", strings.Replace(mounts, "rw,pids", "rw,memory,pids", 1), "3:memory,pids:/b:c\n0::/c\n", "/sys/fs/cgroup/pids", "/b:c"},
		{"not there", mounts, "4:cpu,cpuacct:/a\n0::/c\n", "/sys/fs/cgroup/unified", "/c"},
		{"not mounted", strings.Replace(mounts, "rw,pids", "rw,net", 1), "3:pids:/b\n0::/c\n", "/sys/fs/cgroup/unified", "/c"},
		{"nowhere", "", "3:pids:/b\n", "", ""},
		{"nonsense", "1 2 3 / /m - cgroup\n", "::\n:\n3:pids", "", ""},
	} {
		mount, below, err := findController(c.mounts, "pids", c.own)
		if mount != c.mount || below != c.below || (err == nil) != (c.mount != "") {
			t.Errorf("%s: %q, %q, %v", c.name, mount, below, err)
		}
	}
}
