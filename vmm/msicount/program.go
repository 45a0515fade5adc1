package msicount

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Registers. The frame pointer is the end of the stack.
const (
	r0 = iota
	r1
	r2
	r3
	r4
	r6 = 6
	r7 = 7
	fp = 10
)

// instruction is struct bpf_insn (uapi/linux/bpf.h).
type instruction struct {
	code     uint8
	dst, src uint8 // registers
	off      int16
	imm      int32
}

// Helpers of the kernel, enum bpf_func_id.
const (
	mapLookupElem       = 1   // BPF_FUNC_map_lookup_elem
	getNSCurrentPIDTGID = 120 // BPF_FUNC_get_ns_current_pid_tgid, Linux 5.7
)

// Where the program keeps things, from the frame pointer.
const (
	ids  = -8        // struct bpf_pidns_info: the thread's id, and its process's
	keys = ids - 3*8 // a key
)

// program adds one to the count of a message that somebody wants to know of. Its argument are the tracepoint's, address and data, each of
// 8 bytes. Thread ids are those of the pid namespace; a thread of another has none.
func program(counts int, nsDev, nsIno uint64) []byte {
	load := func(dst uint8, v uint64, src uint8) []instruction { // of 64 bits, in two
		return []instruction{{unix.BPF_LD | unix.BPF_DW | unix.BPF_IMM, dst, src, 0, int32(v)}, {imm: int32(v >> 32)}}
	}
	move := func(dst, src uint8) instruction {
		return instruction{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X, dst, src, 0, 0}
	}
	set := func(dst uint8, v int32) instruction {
		return instruction{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, dst, 0, 0, v}
	}
	add := func(dst uint8, v int32) instruction {
		return instruction{unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K, dst, 0, 0, v}
	}
	store := func(off int16, src uint8) instruction {
		return instruction{unix.BPF_STX | unix.BPF_MEM | unix.BPF_DW, fp, src, off, 0}
	}
	fetch := func(size uint8, dst, src uint8, off int16) instruction {
		return instruction{unix.BPF_LDX | unix.BPF_MEM | size, dst, src, off, 0}
	}
	call := func(helper int32) instruction { return instruction{unix.BPF_JMP | unix.BPF_CALL, 0, 0, 0, helper} }

	var p []instruction
	p = append(p, fetch(unix.BPF_DW, r6, r1, 0), fetch(unix.BPF_DW, r7, r1, 8))
	// The kernel's dev_t has 20 bits for the minor number.
	p = append(p, load(r1, uint64(unix.Major(nsDev))<<20|uint64(unix.Minor(nsDev)), 0)...)
	p = append(p, load(r2, nsIno, 0)...)
	p = append(p, move(r3, fp), add(r3, ids), set(r4, 8), call(getNSCurrentPIDTGID))
	elsewhere := len(p)
	p = append(p,
		instruction{unix.BPF_JMP | unix.BPF_JNE | unix.BPF_K, r0, 0, 0, 0},
		store(keys, r6), store(keys+8, r7),
		fetch(unix.BPF_W, r1, fp, ids), store(keys+16, r1))
	p = append(p, load(r1, uint64(counts), unix.BPF_PSEUDO_MAP_FD)...)
	p = append(p, move(r2, fp), add(r2, keys), call(mapLookupElem))
	unknown := len(p)
	p = append(p,
		instruction{unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, r0, 0, 0, 0},
		set(r1, 1),
		instruction{unix.BPF_STX | unix.BPF_ATOMIC | unix.BPF_DW, r0, r1, 0, unix.BPF_ADD})
	end := len(p)
	p = append(p, set(r0, 0), instruction{unix.BPF_JMP | unix.BPF_EXIT, 0, 0, 0, 0})
	for _, jump := range []int{elsewhere, unknown} {
		p[jump].off = int16(end - jump - 1)
	}

	var b []byte
	for _, i := range p {
		b = append(b, i.code, i.src<<4|i.dst)
		b = binary.NativeEndian.AppendUint16(b, uint16(i.off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.imm))
	}
	return b
}
