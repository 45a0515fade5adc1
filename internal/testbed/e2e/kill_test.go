package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// TestSIGKILLLosesNothingThatWasSynced kills a machine whose guest writes to its disk, while
// another machine runs. The image must contain everything that the guest announced as synced. The
// next machine on that image must remove what the first left in configfs, and nothing else, and its
// guest must see the same data.
func TestSIGKILLLosesNothingThatWasSynced(t *testing.T) {
	testenv.Need(t, "vhost-scsi", "root")
	leavesNothing(t)
	disk := func(path string) string { return fmt.Sprintf("[[disk]]\npath = %q\nserial = %q\n", path, killSerial) }
	other := prepare(t, "", disk("disk.img"))
	other.cmd.Args = append(other.cmd.Args, "--name", "other")
	other.start()
	killed := prepare(t, "", disk("disk.img")).start()
	image := filepath.Join(killed.cmd.Dir, "disk.img")
	killed.expect(`next\?`)
	killed.order(fmt.Sprintf("write %d", killBlocks-1), `synced 20\r\n`)

	refused(t, realProgram(t, "run", "--kernel", vmmtest.Kernels(t)[0].Image, "--disk", image),
		6, image, fmt.Sprintf("in use by process %d", killed.cmd.Process.Pid))

	killed.expect(`synced 60\r\n`)
	killed.signal(syscall.SIGKILL)
	killed.exits(-1)
	announced := lastSynced(t, killed.guest.String())
	t.Logf("blocks 0 to %d were announced", announced)
	checkImage(t, image, announced)
	if left := objectsOf(t, killed); len(left) == 0 {
		t.Error("configfs has no objects of the killed machine: there is nothing to recover")
	}

	other.expect(`next\?`)
	others := objectsOf(t, other)
	again := prepare(t, "", disk(image)).start()
	again.expect(`next\?`)
	again.says(fmt.Sprintf("removed naa.minivmm.%d.", killed.cmd.Process.Pid))
	if left := objectsOf(t, killed); len(left) != 0 {
		t.Errorf("the next start left %q of the killed machine", left)
	}
	if got := objectsOf(t, other); len(others) == 0 || !slices.Equal(got, others) {
		t.Errorf("another machine had %q in configfs before the recovery, and %q after it", others, got)
	}
	again.order(fmt.Sprintf("verify %d", announced), fmt.Sprintf(`verified %d\r\n`, announced))
	other.order("write 5", `synced 5\r\n`)
	for _, m := range []*running{again, other} {
		m.order("end poweroff", vmmtest.OK)
		m.exits(0)
	}
	checkImage(t, filepath.Join(other.cmd.Dir, "disk.img"), 5)
}

// TestSIGKILLTakesTheTapAndTheWorkers kills a machine without disks. Before that it checks that no
// thread of the process can gain privileges, and that the process would leave no core file.
func TestSIGKILLTakesTheTapAndTheWorkers(t *testing.T) {
	testenv.Need(t, "vhost-net", "root")
	leavesNothing(t)
	before := leftovers(t)
	m := prepare(t, "", "[[net]]\n").start()
	m.expect(`next\?`)
	during := leftovers(t)
	for _, what := range []string{`^/sys/class/net/mvm`, `^/proc/.* vhost-\d+$`, `^/proc/\d+ /`} {
		re := regexp.MustCompile(what)
		if slices.ContainsFunc(before, re.MatchString) || !slices.ContainsFunc(during, re.MatchString) {
			t.Errorf("want %s in %q, and not in %q: this test looks in the wrong place", what, during, before)
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads %q, %v", tasks, err)
	}
	for _, status := range tasks {
		contains(t, status, "\nNoNewPrivs:\t1\n")
	}
	contains(t, fmt.Sprintf("/proc/%d/limits", m.cmd.Process.Pid), "Max core file size        0                    0 ")
	m.signal(syscall.SIGKILL)
	m.exits(-1)
}

// contains checks that a file of procfs contains text.
func contains(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), text) {
		t.Errorf("%s: %v; want %q in:\n%s", path, err, text, b)
	}
}

// objectsOf lists a machine's objects in configfs.
func objectsOf(t *testing.T, m *running) (all []string) {
	t.Helper()
	for _, dir := range []string{"vhost/naa.", "core/*/"} {
		found, err := filepath.Glob(fmt.Sprintf("/sys/kernel/config/target/%sminivmm.%d.*", dir, m.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// lastSynced returns the last block that the guest announced completely.
func lastSynced(t *testing.T, console string) int {
	t.Helper()
	all := regexp.MustCompile(`synced (\d+)\r\n`).FindAllStringSubmatch(console, -1)
	if len(all) == 0 {
		t.Fatal("the guest announced nothing")
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func checkImage(t *testing.T, path string, last int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := compareBlocks(f, last); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}
