package vhost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"minivmm/internal/ioctl"
)

// allRequests are the rows of request.go.
var allRequests = []ioctl.Request{
	getFeatures, setFeatures, setOwner, setMemTable, setVringNum, setVringAddr, setVringBase,
	setVringKick, setVringCall, setVringErr, setVringBusyloopTimeout, netSetBackend, scsiSetEndpoint, scsiClearEndpoint,
	newWorker, freeWorker, attachVringWorker, setForkFromOwner,
}

// layouts pairs C structures with Go structures. fields are the C names of the non-blank Go fields,
// in order.
var layouts = []struct {
	name   string
	value  any
	fields string
}{
	{"vhost_memory", memoryHeader{}, "nregions padding"},
	{"vhost_memory_region", memoryRegion{}, "guest_phys_addr memory_size userspace_addr flags_padding"},
	{"vhost_vring_state", vringState{}, "index num"},
	{"vhost_vring_file", vringFile{}, "index fd"},
	{"vhost_vring_addr", vringAddr{}, "index flags desc_user_addr used_user_addr avail_user_addr log_guest_addr"},
	{"vhost_scsi_target", scsiTarget{}, "abi_version vhost_wwpn vhost_tpgt reserved"},
	{"vhost_worker_state", workerState{}, "worker_id"},
	{"vhost_vring_worker", vringWorker{}, "index worker_id"},
}

// goNames lists the Go fields whose names differ from C, by C structure.
var goNames = map[string]string{
	"vhost_memory_region.guest_phys_addr": "gpa",
	"vhost_memory_region.memory_size":     "size",
	"vhost_memory_region.userspace_addr":  "hva",
	"vhost_memory_region.flags_padding":   "flags",
	"vhost_vring_addr.desc_user_addr":     "desc",
	"vhost_vring_addr.used_user_addr":     "used",
	"vhost_vring_addr.avail_user_addr":    "avail",
	"vhost_vring_addr.log_guest_addr":     "log",
	"vhost_scsi_target.vhost_wwpn":        "wwpn",
	"vhost_scsi_target.vhost_tpgt":        "tpgt",
}

// sameName reports whether a Go field is named after a C field.
func sameName(structure, goName, cName string) bool {
	if want, ok := goNames[structure+"."+cName]; ok {
		return goName == want
	}
	return strings.EqualFold(goName, strings.ReplaceAll(cName, "_", ""))
}

// abi returns the values of the Go tables, by their names in abi.c.
func abi(t *testing.T) map[string]string {
	m := make(map[string]string)
	for _, r := range allRequests {
		m[r.Name] = fmt.Sprintf("request %s %#x", r.Name, r.Number)
	}
	for _, l := range layouts {
		typ, names := reflect.TypeOf(l.value), strings.Fields(l.fields)
		m[l.name] = fmt.Sprintf("struct %s %d", l.name, typ.Size())
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				continue
			}
			if !sameName(l.name, f.Name, names[0]) {
				t.Errorf("%s.%s has the Go name %s", l.name, names[0], f.Name)
			}
			name := l.name + "." + names[0]
			m[name] = fmt.Sprintf("field %s %d %d", name, f.Offset, f.Type.Size())
			names = names[1:]
		}
		if len(names) > 0 {
			t.Errorf("%s: no Go field for %v", l.name, names)
		}
	}
	return m
}

func goldenLines(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/abi.golden")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func TestABIMatchesTheGolden(t *testing.T) {
	have := abi(t)
	for _, want := range goldenLines(t) {
		name := strings.Fields(want)[1]
		if have[name] != want {
			t.Errorf("Go has %q, testdata/abi.golden has %q", have[name], want)
		}
		delete(have, name)
	}
	for name := range have {
		t.Errorf("%s is not in testdata/abi.golden", name)
	}
	src, err := os.ReadFile("request.go")
	if err != nil {
		t.Fatal(err)
	}
	if rows := len(regexp.MustCompile(`"VHOST_\w+"`).FindAll(src, -1)); rows != len(allRequests) {
		t.Errorf("request.go has %d rows, this test %d", rows, len(allRequests))
	}
}

func TestGoldenMatchesTheHeaders(t *testing.T) {
	cc := needCC(t)
	prog := filepath.Join(t.TempDir(), "abi")
	if out, err := exec.Command(cc, "-o", prog, "testdata/abi.c").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, out)
	}
	out, err := exec.Command(prog).Output()
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(strings.TrimSpace(string(out)), "\n"), goldenLines(t)
	if len(got) != len(want) {
		t.Fatalf("the headers produce %d lines, testdata/abi.golden has %d", len(got), len(want))
	}
	for i := range want {
		absent := "absent " + strings.Fields(want[i])[1]
		if got[i] != want[i] && got[i] != absent {
			t.Errorf("the headers have %q, testdata/abi.golden has %q", got[i], want[i])
		}
	}
}
