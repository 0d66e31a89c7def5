// Finds a software Vulkan driver for tests of the WebGPU provider; tests that need it skip, and say why, where there is none.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The folder of SwiftShader, as Debian's chromium-common and Google's Chrome have it beside the browser. */
const FOLDER = process.env.SWIFTSHADER ?? "/usr/lib/chromium";
const DRIVER = join(FOLDER, "vk_swiftshader_icd.json");
const LOADER = "libvulkan.so.1";
/** Where Linux distributions put libvulkan1. */
const SYSTEM_FOLDERS = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];

/**
 * The environment in which a process has SwiftShader as its only Vulkan driver, or null where it is not installed. It has
 * to be there when the process starts: the system's loader of libraries reads LD_LIBRARY_PATH once. The project `webgpu` of
 * vitest.config.ts starts its tests in it; another process is given it by who starts it.
 */
export const SOFTWARE_GPU: Readonly<Record<string, string>> | null = findSoftwareGpu();

/** For the names of what is skipped without it. */
export const WHY_NO_GPU = SOFTWARE_GPU
  ? ""
  : ` (skipped: no ${DRIVER} with ${LOADER}; SWIFTSHADER names another folder)`;

function findSoftwareGpu(): Record<string, string> | null {
  const own = existsSync(join(FOLDER, LOADER));
  if (!existsSync(DRIVER) || !(own || SYSTEM_FOLDERS.some((folder) => existsSync(join(folder, LOADER))))) return null;
  const { LD_LIBRARY_PATH: others = "", XDG_RUNTIME_DIR = "/tmp" } = process.env;
  return {
    VK_DRIVER_FILES: DRIVER,
    VK_ICD_FILENAMES: DRIVER, // read by loaders before 1.3.234
    XDG_RUNTIME_DIR, // Dawn complains on stderr where it is not set
    ...(own && { LD_LIBRARY_PATH: [FOLDER, others].filter((path) => path !== "").join(delimiter) }),
  };
}
