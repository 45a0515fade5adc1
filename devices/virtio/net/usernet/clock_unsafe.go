package usernet

import (
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// A reading of another kind does not compile.
var _ [unsafe.Sizeof(tcpip.MonotonicTime{})]byte = [unsafe.Sizeof(time.Duration(0))]byte{}

// monotonic is tcpip.MonotonicTime{}.Add(d), which takes as long as reading the
// clock.
func monotonic(d time.Duration) tcpip.MonotonicTime {
	return *(*tcpip.MonotonicTime)(unsafe.Pointer(&d))
}
