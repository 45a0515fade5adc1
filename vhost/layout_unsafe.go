package vhost

import "unsafe"

// Sizes of the ioctls' arguments.
const (
	sizeMemoryHeader = unsafe.Offsetof(memory{}.regions)
	sizeWorkerState  = unsafe.Sizeof(workerState{})
	sizeVringWorker  = unsafe.Sizeof(vringWorker{})
	sizeVringState   = unsafe.Sizeof(vringState{})
	sizeVringFile    = unsafe.Sizeof(vringFile{})
	sizeVringAddr    = unsafe.Sizeof(vringAddr{})
	sizeScsiTarget   = unsafe.Sizeof(scsiTarget{})
)

// A structure of the wrong size does not compile: "cannot use [..]byte".
var (
	_ [8]byte   = [sizeMemoryHeader]byte{}
	_ [32]byte  = [unsafe.Sizeof(memoryRegion{})]byte{}
	_ [4]byte   = [sizeWorkerState]byte{}
	_ [8]byte   = [sizeVringWorker]byte{}
	_ [8]byte   = [sizeVringState]byte{}
	_ [8]byte   = [sizeVringFile]byte{}
	_ [40]byte  = [sizeVringAddr]byte{}
	_ [232]byte = [sizeScsiTarget]byte{}
)
