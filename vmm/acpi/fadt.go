package acpi

import "encoding/binary"

// IAPC_BOOT_ARCH, table 5.35. LEGACY_DEVICES, 8042 and a CMOS clock are absent.
const (
	bootVGANotPresent = 1 << 2
	bootCMOSNotThere  = 1 << 5 // CMOS RTC Not Present
)

// Fixed feature flags, table 5.34.
const (
	flagWBINVD      = 1 << 0
	flagPROCC1      = 1 << 2
	flagPowerButton = 1 << 4 // not a fixed feature: a control method device
	flagSleepButton = 1 << 5 // likewise not a fixed feature; there is no sleep button
	flagFixRTC      = 1 << 6 // RTC wake status not in fixed registers
	flagResetReg    = 1 << 10
	flagHeadless    = 1 << 12
	flagHWReduced   = 1 << 20
)

// fadt returns the Fixed ACPI Description Table (table 5.33) in revision 6.3. All fields that fadt
// does not set are zero, because a hardware-reduced platform does not use these fields. Linux uses
// the reset register from revision 2 on and the sleep registers from revision 5 on.
func fadt(c Config, dsdtAddr uint64) []byte {
	le := binary.LittleEndian
	t := make([]byte, 276)
	le.PutUint32(t[40:], uint32(dsdtAddr))                    // DSDT
	t[45] = 4                                                 // Preferred_PM_Profile: enterprise server
	le.PutUint16(t[109:], bootVGANotPresent|bootCMOSNotThere) // IAPC_BOOT_ARCH
	le.PutUint32(t[112:], flagWBINVD|flagPROCC1|flagPowerButton|flagSleepButton|flagFixRTC|
		flagResetReg|flagHeadless|flagHWReduced)
	copy(t[116:], ioRegister(c.Reset))        // RESET_REG
	t[128] = c.ResetValue                     // RESET_VALUE
	t[131] = 3                                // FADT Minor Version
	le.PutUint64(t[140:], dsdtAddr)           // X_DSDT
	copy(t[244:], ioRegister(c.SleepControl)) // SLEEP_CONTROL_REG
	copy(t[256:], ioRegister(c.SleepStatus))  // SLEEP_STATUS_REG
	copy(t[268:], "minivmm")                  // Hypervisor Vendor Identity
	return table("FACP", 6, t[headerSize:])
}

// ioRegister returns the Generic Address Structure (table 5.1) of an 8-bit port.
func ioRegister(port uint16) []byte {
	const systemIO, byteAccess = 1, 1
	return binary.LittleEndian.AppendUint64([]byte{systemIO, 8, 0, byteAccess}, uint64(port))
}
