package acpi

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func testConfig(cpus int) Config {
	return Config{
		NumCPUs: cpus, IOAPICID: 1, IOAPICAddr: 0xfec00000,
		ECAM: 0xe0000000, LastBus: 0x0f,
		PCIWindow32: Window{0xc0000000, 0x10000000}, PCIWindow64: Window{1 << 40, 1 << 38},
		SerialPort: 0x3f8, SerialIRQ: 4, EventIRQ: 5,
		SleepControl: 0x600, SleepStatus: 0x601, Reset: 0x602, ResetValue: 1,
	}
}

// iasl returns the compiler's path.
func iasl(t *testing.T) string {
	path, err := exec.LookPath("iasl")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("MINIVMM_REQUIRE"), ","), "iasl") {
			t.Fatal("iasl is required and missing: apt-get install acpica-tools")
		}
		t.Skip("iasl is missing: apt-get install acpica-tools")
	}
	return path
}

func TestTablesSurviveDisassemblyAndCompilation(t *testing.T) {
	compiler := iasl(t)
	for name, c := range map[string]Config{
		"1":   testConfig(1),
		"4":   testConfig(4),
		"16":  testConfig(16),
		"64":  testConfig(64),
		"300": testConfig(300),
		"small": func() Config {
			c := testConfig(2)
			c.SerialPort, c.PCIWindow64, c.EventIRQ = 0, Window{}, 1<<16
			c.ECAM, c.LastBus = 1<<42, 0
			return c
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for sig, b := range tablesOf(t, c) {
				if sig == "XSDT" {
					continue
				}
				bin := filepath.Join(dir, sig+".aml")
				if err := os.WriteFile(bin, b, 0o600); err != nil {
					t.Fatal(err)
				}
				run(t, dir, compiler, "-d", bin)
				out := run(t, dir, compiler, "-p", filepath.Join(dir, sig+"2"), filepath.Join(dir, sig+".dsl"))
				if sig == "DSDT" && !strings.Contains(out, "0 Errors, 0 Warnings, 0 Remarks") {
					t.Errorf("%s: %s", sig, out)
				}
				again, err := os.ReadFile(filepath.Join(dir, sig+"2.aml"))
				if err != nil {
					t.Fatal(err)
				}
				// The compiler writes its own name and version into the header.
				if i := firstDifference(again[headerSize:], b[headerSize:]); i >= 0 {
					t.Errorf("%s: %d bytes compiled again are %d, the first difference is at %#x", sig, len(b), len(again), i+headerSize)
				}
			}
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

func run(t *testing.T, dir, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	for _, word := range []string{"Error ", "Warning ", "Could not", "**** "} {
		if strings.Contains(string(out), word) {
			err = os.ErrInvalid
		}
	}
	if err != nil {
		t.Errorf("%s %v: %v\n%s", path, args, err, out)
	}
	return string(out)
}

// tablesOf builds c's tables and follows the pointers from the RSDP.
func tablesOf(t *testing.T, c Config) map[string][]byte {
	t.Helper()
	const base = 0xe0000
	b, err := Build(c, base)
	if err != nil {
		t.Fatal(err)
	}
	at := func(gpa uint64) []byte {
		off := gpa - base
		if off > uint64(len(b)) || off%align != 0 {
			t.Fatalf("table at %#x: outside the blob or not aligned", gpa)
		}
		n := le32(b[off+4:])
		return b[off : off+uint64(n)]
	}
	m := map[string][]byte{"XSDT": at(le64(b[24:]))}
	for e := m["XSDT"][headerSize:]; len(e) != 0; e = e[8:] {
		tbl := at(le64(e))
		m[string(tbl[:4])] = tbl
	}
	m["DSDT"] = at(le64(m["FACP"][fadtXDSDT:]))
	return m
}
