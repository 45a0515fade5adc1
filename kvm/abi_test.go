package kvm

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

// consts are the constants that abi.c prints, except the capabilities.
var consts = []struct {
	name  string
	value uint64
}{
	{"KVM_API_VERSION", apiVersion},
	{"KVM_MEM_READONLY", MemReadonly},
	{"KVM_CPUID_FLAG_SIGNIFCANT_INDEX", CPUIDSignificantIndex},
	{"KVM_IRQ_ROUTING_IRQCHIP", routingIRQChip},
	{"KVM_IRQ_ROUTING_MSI", routingMSI},
	{"KVM_IRQCHIP_IOAPIC", irqchipIOAPIC},
	{"KVM_IRQFD_FLAG_DEASSIGN", irqfdDeassign},
	{"KVM_IOEVENTFD_FLAG_PIO", ioeventfdPIO},
	{"KVM_IOEVENTFD_FLAG_DEASSIGN", ioeventfdDeassign},
	{"KVM_EXIT_UNKNOWN", uint64(ExitUnknown)},
	{"KVM_EXIT_IO", uint64(ExitIO)},
	{"KVM_EXIT_HLT", uint64(ExitHLT)},
	{"KVM_EXIT_MMIO", uint64(ExitMMIO)},
	{"KVM_EXIT_SHUTDOWN", uint64(ExitShutdown)},
	{"KVM_EXIT_FAIL_ENTRY", uint64(ExitFailEntry)},
	{"KVM_EXIT_INTR", uint64(ExitIntr)},
	{"KVM_EXIT_INTERNAL_ERROR", uint64(ExitInternalError)},
	{"KVM_EXIT_IO_OUT", ioDirectionOut},
	{"KVM_INTERNAL_ERROR_EMULATION", InternalErrorEmulation},
	{"KVM_INTERNAL_ERROR_SIMUL_EX", InternalErrorSimulEx},
	{"KVM_INTERNAL_ERROR_DELIVERY_EV", InternalErrorDeliveryEv},
	{"KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES", emulationInstructionBytes},
}

// allRequests are the rows of request.go in the order of abi.c.
var allRequests = []ioctl.Request{
	getAPIVersion, createVM, checkExtension, getVCPUMmapSize, getSupportedCPUID,
	createVCPU, setUserMemoryRegion, setTSSAddr, setIdentityMapAddr, createIRQChip, irqLine, setGSIRouting,
	irqfd, ioeventfd, getTSCKHz, getStatsFD,
	run, getRegs, setRegs, getSregs, setSregs, setMSRs, setCPUID2,
}

// allCaps are the capabilities in the order of abi.c.
var allCaps = []Cap{
	CapIRQChip, CapUserMemory, CapSetTSSAddr, CapExtCPUID, CapIRQRouting, CapIRQFD, CapIOEventFD, CapSetIdentityMapAddr,
	CapMaxVCPUs, CapReadonlyMem, CapMultiAddressSpace, CapIOEventFDAnyLength, CapImmediateExit,
}

// layouts pairs C structures with Go structures. fields are the C names of the non-blank Go fields,
// in order. A structure with a variable number of entries stands for its header.
var layouts = []struct {
	name   string
	value  any
	fields string
}{
	{"kvm_userspace_memory_region", userMemoryRegion{}, "slot flags guest_phys_addr memory_size userspace_addr"},
	{"kvm_irq_level", irqLevel{}, "irq level"},
	{"kvm_irq_routing", header{}, "nr"},
	{"kvm_irq_routing_entry", routingEntry{}, "gsi type flags u"},
	{"kvm_irqfd", irqfdArg{}, "fd gsi flags resamplefd"},
	{"kvm_ioeventfd", ioeventfdArg{}, "datamatch addr len fd flags"},
	{"kvm_regs", Regs{}, "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags"},
	{"kvm_segment", Segment{}, "base limit selector type present dpl db s l g avl unusable"},
	{"kvm_dtable", DTable{}, "base limit"},
	{"kvm_sregs", Sregs{}, "cs ds es fs gs ss tr ldt gdt idt cr0 cr2 cr3 cr4 cr8 efer apic_base interrupt_bitmap"},
	{"kvm_cpuid_entry2", CPUIDEntry{}, "function index flags eax ebx ecx edx"},
	{"kvm_cpuid2", header{}, "nent"},
	{"kvm_msr_entry", MSREntry{}, "index data"},
	{"kvm_msrs", header{}, "nmsrs"},
}

// offsets are the C fields that are read by offset, in order.
const offsets = `field kvm_run.immediate_exit %d 1
field kvm_run.exit_reason %d 4
field kvm_run.padding %d %d
field kvm_run.io.direction %d 1
field kvm_run.io.size %d 1
field kvm_run.io.port %d 2
field kvm_run.io.count %d 4
field kvm_run.io.data_offset %d 8
field kvm_run.mmio.phys_addr %d 8
field kvm_run.mmio.data %d 8
field kvm_run.mmio.len %d 4
field kvm_run.mmio.is_write %d 1
field kvm_run.fail_entry.hardware_entry_failure_reason %d 8
field kvm_run.fail_entry.cpu %d 4
field kvm_run.internal.suberror %d 4
field kvm_run.internal.ndata %d 4
field kvm_run.internal.data %d 128
field kvm_run.emulation_failure.flags %d 8
field kvm_run.emulation_failure.insn_size %d 1
field kvm_run.emulation_failure.insn_bytes %d 15
field kvm_stats_header.name_size %d 4
field kvm_stats_header.num_desc %d 4
field kvm_stats_header.desc_offset %d 4
field kvm_stats_header.data_offset %d 4
struct kvm_stats_header %d
field kvm_stats_desc.size %d 2
field kvm_stats_desc.offset %d 4
struct kvm_stats_desc %d
`

// goNames lists the Go fields whose names differ from C, by C structure.
var goNames = map[string]string{
	"kvm_userspace_memory_region.guest_phys_addr": "gpa",
	"kvm_userspace_memory_region.memory_size":     "size",
	"kvm_userspace_memory_region.userspace_addr":  "hva",
	"kvm_irq_routing_entry.type":                  "typ",
	"kvm_ioeventfd.len":                           "length",
	"kvm_irq_routing.nr":                          "count",
	"kvm_cpuid2.nent":                             "count",
	"kvm_msrs.nmsrs":                              "count",
}

// sameName reports whether a Go field is named after a C field.
func sameName(structure, goName, cName string) bool {
	if want, ok := goNames[structure+"."+cName]; ok {
		return goName == want
	}
	return strings.EqualFold(goName, strings.ReplaceAll(cName, "_", ""))
}

// abi returns the output of abi.c, computed from the Go tables.
func abi(t *testing.T) string {
	var b strings.Builder
	for _, r := range allRequests {
		fmt.Fprintf(&b, "request %s %#x\n", r.Name, r.Number)
	}
	for _, c := range allCaps {
		fmt.Fprintf(&b, "const %s %d\n", c.name, c.number)
	}
	for _, c := range consts {
		fmt.Fprintf(&b, "const %s %d\n", c.name, c.value)
	}
	for _, l := range layouts {
		typ, names := reflect.TypeOf(l.value), strings.Fields(l.fields)
		fmt.Fprintf(&b, "struct %s %d\n", l.name, typ.Size())
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				continue
			}
			if !sameName(l.name, f.Name, names[0]) {
				t.Errorf("%s.%s has the Go name %s", l.name, names[0], f.Name)
			}
			fmt.Fprintf(&b, "field %s.%s %d %d\n", l.name, names[0], f.Offset, f.Type.Size())
			names = names[1:]
		}
		if len(names) > 0 {
			t.Errorf("%s: no Go field for %v", l.name, names)
		}
	}
	fmt.Fprintf(&b, offsets,
		offImmediateExit, offExitReason, offUnion, minRun-offUnion,
		offIODirection, offIOSize, offIOPort, offIOCount, offIODataOffset,
		offMMIOPhysAddr, offMMIOData, offMMIOLen, offMMIOIsWrite,
		offFailReason, offFailCPU,
		offInternalSuberror, offInternalNdata, offInternalData,
		offInternalData, offInternalData+8, offInternalData+9,
		offStatsNameSize, offStatsNumDesc, offStatsDescOffset, offStatsDataOffset, sizeStatsHeader,
		offDescSize, offDescOffset, offDescName)
	return b.String()
}

func TestABIMatchesTheGolden(t *testing.T) {
	golden, err := os.ReadFile("testdata/abi.golden")
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, "Go", abi(t), "testdata/abi.golden", string(golden))
	// No row is forgotten above.
	for _, file := range []string{"request.go", "cap.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`"KVM_\w+"`).FindAllString(string(src), -1) {
			if !strings.Contains(string(golden), " "+strings.Trim(name, `"`)+" ") {
				t.Errorf("%s has %s, which testdata/abi.golden lacks", file, name)
			}
		}
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
	golden, err := os.ReadFile("testdata/abi.golden")
	if err != nil {
		t.Fatal(err)
	}
	compareLines(t, "headers", string(out), "testdata/abi.golden", string(golden))
}

// compareLines reports every line that differs.
func compareLines(t *testing.T, gotName, got, wantName, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var gl, wl string
		if i < len(g) {
			gl = g[i]
		}
		if i < len(w) {
			wl = w[i]
		}
		if gl != wl {
			t.Errorf("line %d: %s has %q, %s has %q", i+1, gotName, gl, wantName, wl)
		}
	}
}
