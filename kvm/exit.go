package kvm

import (
	"encoding/binary"
	"fmt"
)

// Offsets in struct kvm_run (uapi/linux/kvm.h). The union of exit data starts at offUnion; the
// constants below offUnion are the offsets of the union's members.
const (
	offImmediateExit = 1
	offExitReason    = 8
	offUnion         = 32

	offIODirection  = offUnion + 0
	offIOSize       = offUnion + 1
	offIOPort       = offUnion + 2
	offIOCount      = offUnion + 4
	offIODataOffset = offUnion + 8

	offMMIOPhysAddr = offUnion + 0
	offMMIOData     = offUnion + 8
	offMMIOLen      = offUnion + 16
	offMMIOIsWrite  = offUnion + 20

	offFailReason = offUnion + 0
	offFailCPU    = offUnion + 8

	offInternalSuberror = offUnion + 0
	offInternalNdata    = offUnion + 4
	offInternalData     = offUnion + 8

	// minRun is the minimum size of the mapping: kvm_run up to the end of the union, whose member
	// padding has 256 bytes.
	minRun = offUnion + 256
)

// ExitReason is kvm_run.exit_reason, a KVM_EXIT_*.
type ExitReason uint32

// The exit reasons that are decoded.
const (
	ExitUnknown       ExitReason = 0  // KVM_EXIT_UNKNOWN
	ExitIO            ExitReason = 2  // KVM_EXIT_IO
	ExitHLT           ExitReason = 5  // KVM_EXIT_HLT: only without an in-kernel local APIC
	ExitMMIO          ExitReason = 6  // KVM_EXIT_MMIO
	ExitShutdown      ExitReason = 8  // KVM_EXIT_SHUTDOWN: triple fault
	ExitFailEntry     ExitReason = 9  // KVM_EXIT_FAIL_ENTRY
	ExitIntr          ExitReason = 10 // KVM_EXIT_INTR
	ExitInternalError ExitReason = 17 // KVM_EXIT_INTERNAL_ERROR
)

var exitNames = map[ExitReason]string{
	ExitUnknown: "UNKNOWN", ExitIO: "IO", ExitHLT: "HLT", ExitMMIO: "MMIO", ExitShutdown: "SHUTDOWN",
	ExitFailEntry: "FAIL_ENTRY", ExitIntr: "INTR", ExitInternalError: "INTERNAL_ERROR",
}

// String returns the reason's C name without KVM_EXIT_.
func (r ExitReason) String() string {
	if name, ok := exitNames[r]; ok {
		return name
	}
	return fmt.Sprintf("exit reason %d", uint32(r))
}

// Suberrors of ExitInternalError that a guest can cause.
const (
	InternalErrorEmulation  = 1 // KVM_INTERNAL_ERROR_EMULATION
	InternalErrorSimulEx    = 2 // KVM_INTERNAL_ERROR_SIMUL_EX
	InternalErrorDeliveryEv = 3 // KVM_INTERNAL_ERROR_DELIVERY_EV
)

// Exit is the reason why Run returned. Only the field that Reason selects is valid.
type Exit struct {
	Reason ExitReason

	// IO describes an ExitIO: the guest accesses a port once or several times in a row. Data has
	// Size*Count bytes. It is the data that the guest wrote, or a buffer for the caller to fill.
	IO struct {
		Port  uint16
		Write bool // from the guest
		Size  int  // bytes of one access: 1, 2 or 4
		Count int  // accesses; above 1 for string instructions
		Data  []byte
	}

	// MMIO describes an ExitMMIO: an access of len(Data) bytes, 1 to 8, at GPA. The size need not
	// be a power of two and the address need not be aligned. Data is the data that the guest wrote,
	// or a buffer for the caller to fill.
	MMIO struct {
		GPA   uint64
		Write bool // from the guest
		Data  []byte
	}

	// FailEntry describes an ExitFailEntry: the CPU rejected the guest's state.
	FailEntry struct {
		HardwareReason uint64
		CPU            uint32 // host CPU
	}

	// Internal describes an ExitInternalError: KVM cannot continue. The meaning of Data[:NData]
	// depends on Suberror.
	Internal struct {
		Suberror uint32
		NData    int
		Data     [16]uint64
	}
}

// decode decodes struct kvm_run after a successful KVM_RUN. The argument run must have at least
// minRun bytes. decode checks lengths before it uses them, so that a kernel that violates its ABI
// causes an ExitUnknown and not a panic.
func (e *Exit) decode(run []byte) {
	le := binary.LittleEndian
	e.Reason = ExitReason(le.Uint32(run[offExitReason:]))
	switch e.Reason {
	case ExitIO:
		size, count := uint64(run[offIOSize]), uint64(le.Uint32(run[offIOCount:]))
		off := le.Uint64(run[offIODataOffset:])
		if off > uint64(len(run)) || size*count > uint64(len(run))-off {
			e.Reason = ExitUnknown
			return
		}
		e.IO.Port = le.Uint16(run[offIOPort:])
		e.IO.Write = run[offIODirection] == ioDirectionOut
		e.IO.Size, e.IO.Count = int(size), int(count)
		e.IO.Data = run[off:][: size*count : size*count]
	case ExitMMIO:
		n := le.Uint32(run[offMMIOLen:])
		if n > offMMIOLen-offMMIOData {
			e.Reason = ExitUnknown
			return
		}
		e.MMIO.GPA = le.Uint64(run[offMMIOPhysAddr:])
		e.MMIO.Write = run[offMMIOIsWrite] != 0
		e.MMIO.Data = run[offMMIOData:][:n:n]
	case ExitFailEntry:
		e.FailEntry.HardwareReason = le.Uint64(run[offFailReason:])
		e.FailEntry.CPU = le.Uint32(run[offFailCPU:])
	case ExitInternalError:
		e.Internal.Suberror = le.Uint32(run[offInternalSuberror:])
		e.Internal.NData = int(min(le.Uint32(run[offInternalNdata:]), uint32(len(e.Internal.Data))))
		for i := range e.Internal.NData {
			e.Internal.Data[i] = le.Uint64(run[offInternalData+8*i:])
		}
	}
}

// ioDirectionOut is KVM_EXIT_IO_OUT.
const ioDirectionOut = 1

// String describes the exit in one line, for an error or a trace.
func (e *Exit) String() string {
	switch e.Reason {
	case ExitIO:
		return fmt.Sprintf("IO %s port %#x size %d count %d", direction(e.IO.Write), e.IO.Port, e.IO.Size, e.IO.Count)
	case ExitMMIO:
		return fmt.Sprintf("MMIO %s gpa %#x length %d", direction(e.MMIO.Write), e.MMIO.GPA, len(e.MMIO.Data))
	case ExitFailEntry:
		return fmt.Sprintf("FAIL_ENTRY hardware reason %#x on cpu %d", e.FailEntry.HardwareReason, e.FailEntry.CPU)
	case ExitInternalError:
		s := fmt.Sprintf("INTERNAL_ERROR suberror %d", e.Internal.Suberror)
		if insn := e.instruction(); len(insn) > 0 {
			return s + fmt.Sprintf(": cannot emulate instruction % x", insn)
		}
		return s + fmt.Sprintf(" data %#x", e.Internal.Data[:e.Internal.NData])
	}
	return e.Reason.String()
}

// instruction returns the bytes of the instruction that could not be emulated, if the kernel
// provided them (in kvm_run.emulation_failure, the fields flags, insn_size and insn_bytes[15]
// overlay data[0] to data[2]).
func (e *Exit) instruction() []byte {
	in := &e.Internal
	if in.Suberror != InternalErrorEmulation || in.NData < 3 || in.Data[0]&emulationInstructionBytes == 0 {
		return nil
	}
	b := binary.LittleEndian.AppendUint64(nil, in.Data[1])
	b = binary.LittleEndian.AppendUint64(b, in.Data[2])
	return b[1:][:min(b[0], 15)]
}

// emulationInstructionBytes is KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES.
const emulationInstructionBytes = 1 << 0

func direction(write bool) string {
	if write {
		return "write"
	}
	return "read"
}
