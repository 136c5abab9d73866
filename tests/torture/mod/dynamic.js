import {two} from "./two.js"; export const value = "dynamic" + two;
