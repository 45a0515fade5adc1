package procfs

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = "S 1 2 3 0 -1 4210752 0 1 0 0 7 8 0 0 20 -5 12 0 1475 1 1 1 1 1 1 1 1 0 0 0 1 0 1 1 -1 3 0 1 0 6 0 0 0 0 0 0 0 0 0"
	want := Stat{TID: 12, State: "S", PPID: 1, Flags: 4210752, User: 70e6, System: 80e6, Guest: 60e6, Nice: -5, StartTime: 1475, Policy: 1, LastCPU: 3}
	for _, comm := range []string{"minivmm", "a) R 9 9 (b", "", "two words", "x\ny"} {
		want.Comm = comm
		if got, err := ParseStat("12 (" + comm + ") " + rest + "\n"); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", comm, got, err, want)
		}
	}
	if !want.UserWorker() || want.Kthread() {
		t.Errorf("flags %#x: worker %v, kernel thread %v", want.Flags, want.UserWorker(), want.Kthread())
	}
	for _, bad := range []string{"", "12", "12 (a)", ") (", "12 (a) S 1", "x (a) " + rest, "12 (a) " + strings.Replace(rest, "4210752", "-1", 1)} {
		if got, err := ParseStat(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	if got, err := ReadStat("/proc/self"); err != nil || got.TID != os.Getpid() || got.PPID != os.Getppid() || got.UserWorker() || got.Kthread() {
		t.Errorf("this process: %+v, %v", got, err)
	}
	if ids, err := TaskIDs("/proc/self/task"); err != nil || !slices.Contains(ids, os.Getpid()) {
		t.Errorf("its threads: %v, %v", ids, err)
	}
}

func TestField(t *testing.T) {
	const status = "Name:\tCap\nCapEff:\t00ff\nUid:\t1\t2\t3\t4\n"
	for name, want := range map[string]string{"Name": "Cap", "Cap": "", "CapEff": "00ff", "Uid": "1\t2\t3\t4"} {
		if got := Field(status, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (a) b) S 1 2 3 0 -1 4210752 0 1 0 0 7 8 0 0 20 -5 12 0 1475 1 1 1 1 1 1 1 1 0 0 0 1 0 1 1 -1 3 0 1 0 6 0 0 0 0 0 0 0 0 0")
	f.Add(")(")
	f.Add("0::/a\n1 2 3 / /c - cgroup2")
	f.Fuzz(func(t *testing.T, s string) {
		if st, err := ParseStat(s); err == nil && !strings.Contains(s, "("+st.Comm+")") {
			t.Errorf("stat %q gives an impossible comm %q", s, st.Comm)
		}
		if c := UnifiedCgroup(s); strings.Contains(c, "\n") {
			t.Errorf("cgroup %q", c)
		}
		_, _, _ = findController(s, "pids", s)
		outer(s, 0)
	})
}
