import {two} from "./two.js"; export const one = 1 + two;
