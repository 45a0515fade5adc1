package vmm_test

import "unsafe"

// registers is a mapped BAR. Each access is one instruction of the field's width, as devices
// require; noinline ensures this.
type registers []byte

//go:noinline
func (r registers) get8(off int) uint8 { return *(*uint8)(unsafe.Pointer(&r[off])) }

//go:noinline
func (r registers) get16(off int) uint16 { return *(*uint16)(unsafe.Pointer(&r[off])) }

//go:noinline
func (r registers) get32(off int) uint32 { return *(*uint32)(unsafe.Pointer(&r[off])) }

//go:noinline
func (r registers) put8(off int, v uint8) { *(*uint8)(unsafe.Pointer(&r[off])) = v }

//go:noinline
func (r registers) put16(off int, v uint16) { *(*uint16)(unsafe.Pointer(&r[off])) = v }

//go:noinline
func (r registers) put32(off int, v uint32) { *(*uint32)(unsafe.Pointer(&r[off])) = v }

// address is where a page is mapped.
func address(page []byte) uintptr { return uintptr(unsafe.Pointer(&page[0])) }
