// Finds a software Vulkan driver for tests of the WebGPU provider, which skip, and say why, where there is none.
import { existsSync } from "node:fs";
import { join } from "node:path";

/** The folder of SwiftShader, as Debian's chromium-common has it beside the browser. */
const FOLDER = process.env.SWIFTSHADER ?? "/usr/lib/chromium";
const DRIVER = join(FOLDER, "vk_swiftshader_icd.json");

/**
 * The environment of a process that has SwiftShader as its only Vulkan driver, or null where it is not installed. It has to
 * be there when the process starts: the system's loader of libraries reads LD_LIBRARY_PATH once.
 */
export const SOFTWARE_GPU: Readonly<Record<string, string>> | null =
  existsSync(DRIVER) && existsSync(join(FOLDER, "libvulkan.so.1"))
    ? {
        VK_DRIVER_FILES: DRIVER,
        VK_ICD_FILENAMES: DRIVER, // read by loaders before 1.3.234
        LD_LIBRARY_PATH: FOLDER,
        XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? "/tmp", // Dawn complains on stderr where it is not set
      }
    : null;

/** For the names of what is skipped without it. */
export const WHY_NO_GPU = SOFTWARE_GPU ? "" : ` (skipped: no ${DRIVER}; SWIFTSHADER names another folder)`;
