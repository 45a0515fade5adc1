package acpi

import (
	"minivmm/internal/testbed/testenv"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const mostCPUs = 255

func testConfig(cpus int) Config {
	return Config{
		NumCPUs: cpus, IOAPIC: 0xfec00000, ECAM: 0xe0000000,
		PCIWindow32: Window{0xc0000000, 0x10000000}, PCIPorts: Window{0x1000, 0x2000},
		SerialPort: 0x3f8, SerialIRQ: 4, EventIRQ: 5,
		SleepControl: 0x600, SleepStatus: 0x601, Reset: 0x602, ResetValue: 1,
	}
}

func TestTablesSurviveDisassemblyAndCompilation(t *testing.T) {
	testenv.Need(t, "iasl")
	wideIRQ := testConfig(mostCPUs)
	wideIRQ.EventIRQ = 1 << 16
	for name, c := range map[string]Config{"1": testConfig(1), "4": testConfig(4), "16": testConfig(16), "64": testConfig(64), "most": wideIRQ} {
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
				run(t, dir, "iasl", "-d", bin)
				out := run(t, dir, "iasl", "-p", filepath.Join(dir, sig+"2"), filepath.Join(dir, sig+".dsl"))
				if sig == "DSDT" && !strings.Contains(out, "0 Errors, 0 Warnings, 0 Remarks") {
					t.Errorf("%s: %s", sig, out)
				}
				again, err := os.ReadFile(filepath.Join(dir, sig+"2.aml"))
				if err != nil {
					t.Fatal(err)
				}
				// The compiler writes its own name and version into the header.
				if i := firstDifference(again[headerSize:], b[headerSize:]); i >= 0 {
					t.Errorf("%s: %d bytes became %d after recompiling, first difference at %#x", sig, len(b), len(again), i+headerSize)
				}
			}
		})
	}
}

func TestDisassembledDSDTSaysWhatIsMeant(t *testing.T) {
	testenv.Need(t, "iasl")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dsdt.aml"), tablesOf(t, testConfig(2))["DSDT"], 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "iasl", "-d", "dsdt.aml")
	b, err := os.ReadFile(filepath.Join(dir, "dsdt.dsl"))
	if err != nil {
		t.Fatal(err)
	}
	// The comments and line breaks depend on iasl's version.
	text := regexp.MustCompile(`/\*.*?\*/|//.*`).ReplaceAllString(string(b), "")
	text = strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		`Device (PWRB) { Name (_HID, EisaId ("PNP0C0C") ) }`,
		`Name (_HID, "ACPI0013" )`,
		`Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, ) { 0x00000005, }`,
		`Method (_EVT, 1, Serialized) { If ((Arg0 == 0x05)) { Notify (PWRB, 0x80) } }`,
		`Name (_HID, EisaId ("PNP0A08") )`,
		`Name (_CID, EisaId ("PNP0A03") )`,
		`WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0x0000, 0x0000, 0x0000, 0x0000, 0x0001, ,, )`,
		`IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08, )`,
		`DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0x00000000, 0xC0000000, 0xCFFFFFFF, 0x00000000, 0x10000000,`,
		`WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0x0000, 0x1000, 0x2FFF, 0x0000, 0x2000, ,, , TypeStatic, DenseTranslation)`,
		`CreateDWordField (Arg3, Zero, CDW1) If ((Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766") )) { If ((Arg1 != One)) { CDW1 |= 0x08 } } Else { CDW1 |= 0x04 } Return (Arg3)`,
		`Memory32Fixed (ReadWrite, 0xE0000000, 0x00100000, )`,
		`IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08, )`,
		`Device (C001) { Name (_HID, "ACPI0007" ) Name (_UID, One) }`,
		`Name (_S5, Package (0x04) { 0x05, Zero, Zero, Zero })`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
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
	b := Build(c, base)
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
	m["DSDT"] = at(le64(m["FACP"][140:]))
	return m
}
